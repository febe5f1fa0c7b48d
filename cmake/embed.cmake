# tg_embed(TARGET FILE CONSTANT HEADER): compiles FILE into TARGET as the text tg::CONSTANT, which HEADER
# declares. Written when the build is configured, which a change of FILE makes happen again; so tools that
# read sources have it too.
function(tg_embed target file TG_CONSTANT TG_HEADER)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} TG_TEXT)
  if(TG_TEXT MATCHES "\\)text\"")
    message(FATAL_ERROR "${file} has the end of the literal that it becomes: )text\"")
  endif()
  file(RELATIVE_PATH TG_FILE ${CMAKE_SOURCE_DIR} ${file})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${TG_CONSTANT}.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[// Made of @TG_FILE@ by cmake/embed.cmake.
#include "@TG_HEADER@"

namespace tg {

const std::string_view @TG_CONSTANT@ = R"text(@TG_TEXT@)text";

}  // namespace tg
]])
  target_sources(${target} PRIVATE ${source})
endfunction()
