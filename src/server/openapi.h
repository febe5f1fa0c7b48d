// What: GET /openapi.json: a description of every path (OpenAPI 3.1), src/server/openapi.json,
// which
//   is part of the program. A test holds it against the routes and against what requests may have.
// Who owns: nobody, it is constant. Thread: any.
#pragma once

#include <string_view>

namespace tg {

extern const std::string_view kOpenApiJson;  // the file, see cmake/embed.cmake

}  // namespace tg
