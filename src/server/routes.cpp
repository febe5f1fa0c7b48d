#include "server/routes.h"

#include <algorithm>
#include <array>

namespace tg {
namespace {

constexpr std::array<Route, 13> kRoutes = {{
    {"POST", "/v1/completions", RouteAction::kCompletion},
    {"POST", "/v1/chat/completions", RouteAction::kChat},
    {"GET", "/v1/models", RouteAction::kModels},
    {"GET", "/v1/models/{model}", RouteAction::kModel},
    {"POST", "/tokenize", RouteAction::kTokenize},
    {"POST", "/detokenize", RouteAction::kDetokenize},
    {"GET", "/tokenizer_info", RouteAction::kTokenizerInfo},
    {"GET", "/health", RouteAction::kHealth, false},
    {"GET", "/version", RouteAction::kVersion, false},
    {"GET", "/metrics", RouteAction::kMetrics, false},
    {"GET", "/mesh", RouteAction::kMesh, false},
    {"GET", "/openapi.json", RouteAction::kOpenApi, false},
    {"GET", "/", RouteAction::kPage, false},
}};

bool matches(const Route& route, std::string_view path) {
  const std::string_view prefix = route.prefix();
  if (prefix.size() == route.path.size()) return path == prefix;
  return path.size() > prefix.size() && path.starts_with(prefix);
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

const Route* find_route(std::string_view path) {
  const auto found = std::find_if(kRoutes.begin(), kRoutes.end(),
                                  [path](const Route& route) { return matches(route, path); });
  return found == kRoutes.end() ? nullptr : &*found;
}

}  // namespace tg
