#include "server/answer_request.h"

#include <charconv>
#include <limits>
#include <utility>

namespace tg {
namespace {

// Whole numbers that a double holds; far above any context.
constexpr std::int64_t kMostWhole = std::int64_t{1} << 53;
// A stop text costs a step of work per byte of the answer, on the engine's thread.
constexpr std::size_t kMostStops = 1024;
constexpr std::size_t kMostStopBytes = std::size_t{64} << 10;

Status read_logit_bias(const RequestFields& fields, SamplingParams& sampling) {
  const RequestJson* bias = fields.find("logit_bias");
  if (bias == nullptr) return {};
  if (!bias->is_object()) return fields.wrong("logit_bias", *bias, "an object of id: number");
  for (const auto& [key, value] : bias->items()) {
    TokenId id = 0;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failure != std::errc() || end != key.data() + key.size() || id < 0) {
      return field_error("logit_bias", "the key {} of logit_bias is no token id",
                         shown_value(RequestJson(key)));
    }
    const double number = value.is_number() ? value.get<double>() : 1e9;
    if (!(number >= -100.0 && number <= 100.0)) {
      return field_error("logit_bias", "logit_bias of {} is {}, not a number in -100..100", id,
                         shown_value(value));
    }
    sampling.logit_bias.emplace_back(id, static_cast<float>(number));
  }
  return {};
}

Status read_sampling(const RequestFields& fields, AnswerRequest& request) {
  SamplingParams& s = request.sampling;
  TG_ASSIGN(const auto temperature, fields.number("temperature", 0.0, 2.0));
  TG_ASSIGN(const auto top_p, fields.number("top_p", 0.0, 1.0));
  TG_ASSIGN(const auto min_p, fields.number("min_p", 0.0, 1.0));
  TG_ASSIGN(const auto top_k, fields.whole("top_k", -1, kMostWhole));
  TG_ASSIGN(const auto presence, fields.number("presence_penalty", -2.0, 2.0));
  TG_ASSIGN(const auto frequency, fields.number("frequency_penalty", -2.0, 2.0));
  TG_ASSIGN(const auto repetition, fields.number("repetition_penalty", 0.01, 100.0));
  s.temperature = temperature.value_or(s.temperature);
  s.top_p = top_p.value_or(s.top_p);
  s.min_p = min_p.value_or(s.min_p);
  s.top_k = top_k.value_or(s.top_k);
  s.presence_penalty = presence.value_or(s.presence_penalty);
  s.frequency_penalty = frequency.value_or(s.frequency_penalty);
  s.repetition_penalty = repetition.value_or(s.repetition_penalty);
  TG_ASSIGN(const auto seed, fields.whole("seed", std::numeric_limits<std::int64_t>::min(),
                                          std::numeric_limits<std::int64_t>::max()));
  if (seed) request.seed = static_cast<std::uint64_t>(*seed);
  return read_logit_bias(fields, s);
}

Status add_stop(const RequestFields& fields, const RequestJson& value, AnswerRequest& request) {
  if (!value.is_string()) return fields.wrong("stop", value, "a string or a list of strings");
  if (value.get_ref<const std::string&>().empty()) {
    return field_error("stop", "stop has an empty string");
  }
  request.stop.push_back(value.get<std::string>());
  return {};
}

Status read_stops(const RequestFields& fields, AnswerRequest& request) {
  if (const RequestJson* stop = fields.find("stop"); stop != nullptr && stop->is_array()) {
    for (const RequestJson& text : *stop) TG_RETURN_IF_ERROR(add_stop(fields, text, request));
  } else if (stop != nullptr) {
    TG_RETURN_IF_ERROR(add_stop(fields, *stop, request));
  }
  std::size_t bytes = 0;
  for (const std::string& text : request.stop) bytes += text.size();
  if (request.stop.size() > kMostStops || bytes > kMostStopBytes) {
    return field_error("stop", "stop has {} texts of {} bytes in all; {} of {} are the most",
                       request.stop.size(), bytes, kMostStops, kMostStopBytes);
  }
  const RequestJson* ids = fields.find("stop_token_ids");
  if (ids == nullptr) return {};
  if (!ids->is_array()) return fields.wrong("stop_token_ids", *ids, "a list of token ids");
  for (const RequestJson& value : *ids) {
    const std::optional<std::int64_t> id = whole_number(value);
    if (!id || *id < 0 || *id > std::numeric_limits<TokenId>::max()) {
      return fields.wrong("stop_token_ids", value, "a token id");
    }
    request.stop_token_ids.push_back(static_cast<TokenId>(*id));
  }
  return {};
}

Status set_form(AnswerRequest& request, AnswerForm form) {
  if (request.form.kind != AnswerForm::Kind::kAny) {
    return field_error(form.field, "{} and {}: an answer has one form", request.form.field,
                       form.field);
  }
  request.form = std::move(form);
  return {};
}

// A schema is an object, or (vLLM) the text of one.
Status set_schema(const RequestFields& fields, const char* key, const RequestJson& value,
                  AnswerRequest& request) {
  if (!value.is_object() && !value.is_string() && !value.is_boolean()) {
    return fields.wrong(key, value, "a JSON schema");
  }
  std::string source = value.is_string() ? value.get<std::string>() : value.dump();
  return set_form(request,
                  {AnswerForm::Kind::kJsonSchema, std::move(source), {}, fields.path(key)});
}

Status read_response_format(const RequestFields& fields, AnswerRequest& request) {
  const RequestJson* format = fields.find("response_format");
  if (format == nullptr) return {};
  if (!format->is_object()) return fields.wrong("response_format", *format, "an object");
  const RequestFields inner(*format, "response_format");
  TG_ASSIGN(const auto type, inner.text("type"));
  if (type == "text") return {};
  if (type == "json_object") {
    return set_form(request, {AnswerForm::Kind::kJsonObject, {}, {}, "response_format"});
  }
  if (type != "json_schema") {
    return field_error("response_format",
                       "response_format.type is {}, not text, json_object or json_schema",
                       type ? shown_value(RequestJson(*type)) : "missing");
  }
  const RequestJson* wrapper = inner.find("json_schema");
  if (wrapper == nullptr || !wrapper->is_object()) {
    return field_error("response_format", "response_format.json_schema must be an object");
  }
  const RequestFields schema_fields(*wrapper, "response_format.json_schema");
  TG_ASSIGN(const auto name, schema_fields.text("name"));
  const RequestJson* schema = schema_fields.find("schema");
  if (schema == nullptr) {
    return field_error("response_format", "response_format.json_schema.schema is missing");
  }
  return set_schema(schema_fields, "schema", *schema, request);
}

Status read_choices(const RequestFields& fields, const char* key, AnswerRequest& request) {
  const RequestJson* value = fields.find(key);
  if (value == nullptr) return {};
  AnswerForm form{AnswerForm::Kind::kChoice, {}, {}, fields.path(key)};
  if (!value->is_array() || value->empty()) return fields.wrong(key, *value, "a list of strings");
  for (const RequestJson& choice : *value) {
    if (!choice.is_string()) return fields.wrong(key, choice, "a string");
    form.choices.push_back(choice.get<std::string>());
  }
  return set_form(request, std::move(form));
}

// vLLM's names, `prefix` in front of each: "guided_regex", or "regex" in "structured_outputs".
Status read_guided(const RequestFields& fields, const std::string& prefix, AnswerRequest& request) {
  const std::string json = prefix + "json";
  const std::string regex = prefix + "regex";
  const std::string grammar = prefix + "grammar";
  if (const RequestJson* schema = fields.find(json.c_str())) {
    TG_RETURN_IF_ERROR(set_schema(fields, json.c_str(), *schema, request));
  }
  TG_ASSIGN(auto pattern, fields.text(regex.c_str()));
  if (pattern) {
    TG_RETURN_IF_ERROR(set_form(
        request, {AnswerForm::Kind::kRegex, std::move(*pattern), {}, fields.path(regex.c_str())}));
  }
  TG_RETURN_IF_ERROR(read_choices(fields, (prefix + "choice").c_str(), request));
  if (fields.find(grammar.c_str()) != nullptr) {
    const std::string field = fields.path(grammar.c_str());
    return field_error(field, "{} is not supported: use {}, {} or {}choice", field, json, regex,
                       prefix);
  }
  return {};
}

Status read_form(const RequestFields& fields, AnswerRequest& request) {
  TG_RETURN_IF_ERROR(read_response_format(fields, request));
  TG_RETURN_IF_ERROR(read_guided(fields, "guided_", request));
  const RequestJson* structured = fields.find("structured_outputs");
  if (structured == nullptr) return {};
  if (!structured->is_object()) return fields.wrong("structured_outputs", *structured, "an object");
  return read_guided(RequestFields(*structured, "structured_outputs"), "", request);
}

Status read_delivery(const RequestFields& fields, AnswerRequest& request) {
  TG_ASSIGN(request.stream, fields.flag("stream", false));
  const RequestJson* options = fields.find("stream_options");
  if (options == nullptr) return {};
  if (!options->is_object()) return fields.wrong("stream_options", *options, "an object");
  if (!request.stream) {
    return field_error("stream_options", "stream_options needs \"stream\": true");
  }
  TG_ASSIGN(request.include_usage,
            RequestFields(*options, "stream_options").flag("include_usage", false));
  return {};
}

}  // namespace

Status check_form(const AnswerRequest& request) {
  if (request.form.kind == AnswerForm::Kind::kAny) return {};
  if (!request.ignore_eos && request.min_tokens == 0) return {};
  const char* field = request.ignore_eos ? "ignore_eos" : "min_tokens";
  return field_error(field, "{} does not go together with {}", field, request.form.field);
}

Result<AnswerRequest> read_answer_request(const RequestJson& body, const SamplingParams& defaults,
                                          std::int64_t least_tokens) {
  const RequestFields fields(body);
  AnswerRequest request;
  request.sampling = defaults;
  TG_ASSIGN(const auto model, fields.text("model"));
  request.model = model.value_or("");
  TG_RETURN_IF_ERROR(read_sampling(fields, request));
  TG_ASSIGN(const auto choices, fields.whole("n", 1, kMostChoices));
  request.choices = choices.value_or(1);
  TG_ASSIGN(const auto old_name, fields.whole("max_tokens", least_tokens, kMostWhole));
  TG_ASSIGN(const auto new_name, fields.whole("max_completion_tokens", least_tokens, kMostWhole));
  request.max_tokens = new_name ? new_name : old_name;
  TG_ASSIGN(const auto min_tokens, fields.whole("min_tokens", 0, kMostWhole));
  request.min_tokens = min_tokens.value_or(0);
  if (request.max_tokens && request.min_tokens > *request.max_tokens) {
    return field_error("min_tokens", "min_tokens {} is more than max_tokens {}", request.min_tokens,
                       *request.max_tokens);
  }
  TG_ASSIGN(request.ignore_eos, fields.flag("ignore_eos", false));
  TG_RETURN_IF_ERROR(read_stops(fields, request));
  TG_ASSIGN(request.keeps_stop_text, fields.flag("include_stop_str_in_output", false));
  TG_ASSIGN(request.skip_special, fields.flag("skip_special_tokens", true));
  TG_ASSIGN(const auto priority, fields.whole("priority", std::numeric_limits<std::int32_t>::min(),
                                              std::numeric_limits<std::int32_t>::max()));
  request.priority = static_cast<std::int32_t>(priority.value_or(0));
  TG_RETURN_IF_ERROR(read_form(fields, request));
  TG_RETURN_IF_ERROR(check_form(request));
  TG_RETURN_IF_ERROR(read_delivery(fields, request));
  return request;
}

}  // namespace tg
