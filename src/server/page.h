// What: the page at "/": a chat and a live dashboard in one file, src/server/page/index.html, which
//   is part of the program. It asks this server only; its headers forbid anything else.
// Who owns: nobody, it is constant. Thread: any.
#pragma once

#include <string>
#include <string_view>

#include "server/http_server.h"

namespace tg {

extern const std::string_view kPageHtml;  // the file, see cmake/embed.cmake

// 'sha256-...' of the text between <tag> and </tag>, the first of them: how a
// Content-Security-Policy names the one script and the one style sheet that may run.
std::string inline_hash(std::string_view html, std::string_view tag);

HttpResponse page_response();

}  // namespace tg
