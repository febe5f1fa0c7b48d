# tg_embed_page(TARGET FILE): compiles FILE into TARGET as tg::kPageHtml (server/page.h). Written when the
# build is configured, which a change of FILE makes happen again; so tools that read sources have it too.
function(tg_embed_page target file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} TG_PAGE)
  if(TG_PAGE MATCHES "\\)page\"")
    message(FATAL_ERROR "${file} has the end of the literal that it becomes: )page\"")
  endif()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/page_html.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[// Made of src/server/page/index.html by cmake/page.cmake.
#include "server/page.h"

namespace tg {

const std::string_view kPageHtml = R"page(@TG_PAGE@)page";

}  // namespace tg
]])
  target_sources(${target} PRIVATE ${source})
endfunction()
