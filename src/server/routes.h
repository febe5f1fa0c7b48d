// What: every path of the server in one table: its method, what it does, whether it asks for a key.
//   The API dispatches by it, openapi.json describes it, and a test compares the two.
// Who owns: nobody, it is constant. Thread: any.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tg {

enum class RouteAction : std::uint8_t {
  kCompletion,
  kChat,
  kTokenize,
  kDetokenize,
  kModels,
  kModel,
  kTokenizerInfo,
  kHealth,
  kVersion,
  kMetrics,
  kMesh,
  kOpenApi,
  kPage,
};

struct Route {
  std::string_view method;  // "GET" or "POST"
  std::string_view path;    // as in openapi.json; "{...}" at its end stands for the rest, not empty
  RouteAction action = RouteAction::kPage;
  bool needs_key = true;

  // What a path of this route has in front of its "{...}"; all of it where there is none.
  std::string_view prefix() const { return path.substr(0, path.find('{')); }
};

std::span<const Route> routes();

// The route of a request's path; nullptr: there is no such path.
const Route* find_route(std::string_view path);

}  // namespace tg
