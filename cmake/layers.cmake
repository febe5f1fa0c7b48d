# Several sources of a folder are compiled as one, which halves the time of a whole build: most of it is
# reading the headers of libraries. So unnamed-namespace names differ within a folder. OFF (the preset
# dev): every source by itself, for a short wait after a small change.
option(TG_UNITY "Compile several sources of a folder as one" ON)
set(TG_UNITY_SIZE 8 CACHE STRING "How many: fewer parts take less time together, more keep more cores busy")

# tg_layer(NAME DEPS...): the static library tg_NAME made of every source in src/NAME.
# A layer sees the headers of src/ but links only the layers named, so an upward call does not link.
function(tg_layer name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  add_library(tg_${name} STATIC ${sources})
  target_include_directories(tg_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(tg_${name} PUBLIC ${ARGN})
  set_target_properties(tg_${name} PROPERTIES UNITY_BUILD ${TG_UNITY} UNITY_BUILD_BATCH_SIZE ${TG_UNITY_SIZE})
endfunction()

# tg_test(NAME TIMEOUT PROCESSORS DEPS...): one GoogleTest program of every *_test.cpp in tests/NAME.
# ctest -j counts each of its tests as so many, as the tests of whole models use two threads.
function(tg_test name timeout processors)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_test.cpp)
  add_executable(${name}_test ${sources})
  target_include_directories(${name}_test PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${name}_test PRIVATE ${ARGN} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${name}_test PROPERTIES UNITY_BUILD ${TG_UNITY} UNITY_BUILD_BATCH_SIZE ${TG_UNITY_SIZE})
  target_compile_options(${name}_test PRIVATE -O1)  # a fifth less to compile; what is tested is -O2
  target_compile_definitions(${name}_test PRIVATE TG_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                                  TG_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_dependencies(${name}_test tiny_forms)
  include(GoogleTest)
  gtest_discover_tests(${name}_test PROPERTIES TIMEOUT ${timeout} PROCESSORS ${processors}
                                     DISCOVERY_TIMEOUT 60)
endfunction()
