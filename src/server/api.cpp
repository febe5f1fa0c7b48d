#include "server/api.h"

#include <exception>
#include <utility>

#include "server/completion_request.h"
#include "server/json_text.h"
#include "server/openapi.h"
#include "server/page.h"
#include "text/utf8.h"

namespace tg {
namespace {

// Takes as long for a wrong key as for another wrong key, so that time does not tell how far a
// guess was right.
bool same_key(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0U : 1U;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

// The key of "Bearer KEY"; the scheme in any case, as for every scheme of HTTP.
std::string_view bearer_key(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() < kScheme.size()) return {};
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = header[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != kScheme[i]) return {};
  }
  header.remove_prefix(kScheme.size());
  while (header.starts_with(' ')) header.remove_prefix(1);
  return header;
}

HttpResponse wrong_method(const HttpRequest& request, const Route& route) {
  // A HEAD comes here as a GET.
  const std::string allowed = route.method == "GET" ? "GET, HEAD" : std::string(route.method);
  HttpResponse response = error_response(
      ApiError{405, fmt::format("{} answers to {} only", shown_text(request.path), allowed)});
  response.headers.emplace_back("Allow", allowed);
  return response;
}

std::string ids_json(const std::vector<TokenId>& ids) {
  return fmt::format("[{}]", fmt::join(ids, ","));
}

}  // namespace

Api::Action Api::action_of(const Route& route) {
  switch (route.action) {
    case RouteAction::kCompletion:
      return &Api::complete;
    case RouteAction::kChat:
      return &Api::chat;
    case RouteAction::kTokenize:
      return &Api::tokenize;
    case RouteAction::kDetokenize:
      return &Api::detokenize;
    default:
      return nullptr;
  }
}

Api::Api(ServedModel model, ApiOptions options)
    : model_(std::move(model)),
      options_(std::move(options)),
      forms_(model_.tokenizer, model_.stop_ids),
      work_(options_.threads, options_.most_waiting) {}

Api::~Api() = default;

void Api::serve_with(EngineThread& engine, std::int64_t max_tokens) {
  max_tokens_ = max_tokens;
  engine_ = &engine;
  State loading = State::kLoading;  // drain() may have come before
  state_.compare_exchange_strong(loading, State::kReady);
}

void Api::drain() { state_ = State::kDraining; }

std::optional<HttpResponse> Api::refuse(const HttpRequest& request) const {
  std::string_view method = request.method;
  if (method == "HEAD") method = "GET";
  const Route* route = find_route(request.path);
  if (route == nullptr || (route->action == RouteAction::kMetrics && options_.metrics == nullptr)) {
    return error_response(ApiError{404, fmt::format("{}: no such path", shown_text(request.path))});
  }
  if (method != route->method) return wrong_method(request, *route);
  if (route->needs_key && !has_key(request)) {
    return error_response(ApiError{
        401, "the request has no valid key (Authorization: Bearer KEY)", {}, "invalid_api_key"});
  }
  if (action_of(*route) == nullptr) return std::nullopt;
  if (const std::optional<ApiError> why_not = unavailable()) return error_response(*why_not);
  return std::nullopt;
}

void Api::handle(HttpRequest request, const std::shared_ptr<HttpExchange>& exchange) {
  if (auto refusal = refuse(request)) return exchange->respond(*std::move(refusal));
  const Route* route = find_route(request.path);
  const Action action = action_of(*route);
  if (action == nullptr) return exchange->respond(get(*route, request.path));
  post(action, std::move(request), exchange);
}

bool Api::has_key(const HttpRequest& request) const {
  if (options_.keys.empty()) return true;
  const std::string_view given = bearer_key(request.header("authorization"));
  bool found = false;
  for (const std::string& key : options_.keys) found = same_key(given, key) || found;
  return found;
}

HttpResponse Api::get(const Route& route, std::string_view path) const {
  switch (route.action) {
    case RouteAction::kModels:
      return models();
    case RouteAction::kModel:
      return model(path.substr(route.prefix().size()));
    case RouteAction::kTokenizerInfo:
      return tokenizer_info();
    case RouteAction::kHealth:
      return health();
    case RouteAction::kVersion:
      return {.body = R"({"version":)" + json_string(options_.version) + "}"};
    case RouteAction::kMetrics:
      return metrics();
    case RouteAction::kMesh:
      return mesh();
    case RouteAction::kOpenApi:
      return {.body = std::string(kOpenApiJson)};
    case RouteAction::kPage:
      return page_response();
    default:  // those that action_of() has
      return error_response(ApiError{500, "this path has no answer"});
  }
}

std::optional<ApiError> Api::unavailable() const {
  switch (state_.load()) {
    case State::kLoading:
      return ApiError{503, "the model is being loaded", {}, "loading"};
    case State::kDraining:
      return shutting_down_error();
    case State::kReady:
      break;
  }
  const EngineSnapshot engine = engine_.load()->snapshot();
  if (!engine.failed) return {};
  return ApiError{
      503, fmt::format("the engine has failed: {}", engine.failure.text()), {}, "engine_failed"};
}

HttpResponse Api::health() const {
  const std::optional<ApiError> why_not = unavailable();
  return why_not ? error_response(*why_not) : HttpResponse{.body = R"({"status":"ok"})"};
}

EngineSnapshot Api::snapshot() const {
  const EngineThread* engine = engine_.load();
  return engine == nullptr ? EngineSnapshot() : engine->snapshot();
}

HttpResponse Api::metrics() const {
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = options_.metrics->text(snapshot())};
}

HttpResponse Api::mesh() const { return {.body = mesh_json(options_.mesh, snapshot())}; }

std::string Api::model_card() const {
  std::string card = R"({"id":)" + json_string(model_.id);
  card += fmt::format(R"(,"object":"model","created":{},"owned_by":"llama-tg","root":)",
                      model_.created);
  card += json_string(model_.root);
  return card + fmt::format(R"(,"parent":null,"max_model_len":{}}})", model_.max_context);
}

HttpResponse Api::models() const {
  return {.body = R"({"object":"list","data":[)" + model_card() + "]}"};
}

HttpResponse Api::model(std::string_view id) const {
  const Status known = check_model(std::string(id));
  return known ? HttpResponse{.body = model_card()} : error_response(known.error());
}

// The names of a tokenizer_config.json, as vLLM's: what is not there is null.
HttpResponse Api::tokenizer_info() const {
  std::string eos = model_.eos_text;
  if (eos.empty() && !model_.stop_ids.empty()) {
    eos = model_.tokenizer->token_bytes(model_.stop_ids.front());
  }
  std::string body = R"({"tokenizer_class":"llama-tg","bos_token":)";
  append_json_or_null(body, model_.bos_text);
  body += R"(,"eos_token":)";
  append_json_or_null(body, eos);
  body += R"(,"pad_token":null,"chat_template":)";
  append_json_or_null(body, template_source(model_));
  body += R"(,"chat_template_name":)" + json_string(model_.chat_template_name);
  body += fmt::format(R"(,"vocab_size":{},"model_max_length":{}}})", model_.tokenizer->vocab_size(),
                      model_.max_context);
  return {.body = std::move(body)};
}

Status Api::check_model(const std::string& name) const {
  if (name.empty() || name == model_.id) return {};
  return tl::unexpected<Error>(
      Error{ErrorCode::kNotFound,
            fmt::format("the model {} does not exist; {} is served", shown_text(name), model_.id),
            "model"});
}

void Api::post(Action action, HttpRequest request, const std::shared_ptr<HttpExchange>& exchange) {
  const bool posted = work_.post([this, action, request = std::move(request), exchange] {
    Status status;
    try {
      status = act(action, request, exchange);
    } catch (const std::exception& e) {  // memory, for one: it ends the request and nothing else
      status = error(ErrorCode::kInternal, "the request failed: {}", shown_text(e.what()));
    }
    if (!status) exchange->respond(error_response(status.error()));
  });
  if (!posted) {
    exchange->respond(error_response(
        Error{ErrorCode::kBusy,
              fmt::format("{} requests wait to be read already", options_.most_waiting),
              {}}));
  }
}

Status Api::act(Action action, const HttpRequest& request,
                const std::shared_ptr<HttpExchange>& exchange) {
  TG_ASSIGN(const RequestJson body, parse_request_json(request.body));
  TG_ASSIGN(const auto model, RequestFields(body).text("model"));
  TG_RETURN_IF_ERROR(check_model(model.value_or("")));
  return (this->*action)(body, request.id, exchange);
}

Status Api::tokenize(const RequestJson& body, const std::string& /*id*/,
                     const std::shared_ptr<HttpExchange>& exchange) {
  const RequestFields fields(body);
  std::vector<TokenId> ids;
  if (fields.find("messages") != nullptr) {
    TG_ASSIGN(const ChatMessages chat, read_chat_messages(body));
    TG_ASSIGN(ids, encode_messages(model_, chat));
  } else {
    TG_ASSIGN(const auto prompt, fields.text("prompt"));
    if (!prompt) return field_error("prompt", "prompt is missing (or messages)");
    TG_ASSIGN(const bool special, fields.flag("add_special_tokens", true));
    ids = special ? model_.tokenizer->encode_prompt(*prompt, SpecialTokens::kParse)
                  : model_.tokenizer->encode(*prompt, SpecialTokens::kParse);
  }
  TG_ASSIGN(const bool with_texts, fields.flag("return_token_strs", false));
  std::string texts = with_texts ? "[" : "null";
  for (std::size_t i = 0; with_texts && i < ids.size(); ++i) {
    if (i > 0) texts += ',';
    append_json_string(texts, token_text(*model_.tokenizer, ids[i]));
  }
  if (with_texts) texts += ']';
  exchange->respond(
      {.body = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":{},"token_strs":{}}})",
                           ids.size(), model_.max_context, ids_json(ids), texts)});
  return {};
}

Status Api::detokenize(const RequestJson& body, const std::string& /*id*/,
                       const std::shared_ptr<HttpExchange>& exchange) {
  const RequestFields fields(body);
  const RequestJson* tokens = fields.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) {
    return field_error("tokens", "tokens must be a list of token ids");
  }
  std::vector<TokenId> ids;
  if (!tokens->empty()) {
    TG_ASSIGN(ids, read_token_ids(*tokens, "tokens"));
  }
  for (const TokenId id : ids) {
    if (id < model_.tokenizer->vocab_size()) continue;
    return field_error("tokens", "tokens has {}: the vocabulary's ids are 0..{}", id,
                       model_.tokenizer->vocab_size() - 1);
  }
  exchange->respond(
      {.body = R"({"prompt":)" + json_string(model_.tokenizer->decode(ids, false)) + "}"});
  return {};
}

}  // namespace tg
