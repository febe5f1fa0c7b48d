// GET /openapi.json against the code: the routes, and types, ranges and defaults of what requests
// may have. That answers are as it says is tested by tests/clients.
#include "server/openapi.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/api_calls.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/routes.h"

namespace tg::test {
namespace {

const Json& document() {
  static const Json read = Json::parse(kOpenApiJson);
  return read;
}

// What a {"$ref"} stands for; anything else as it is.
const Json& resolved(const Json& schema) {
  if (!schema.is_object() || !schema.contains("$ref")) return schema;
  return document().at(Json::json_pointer(schema["$ref"].get<std::string>().substr(1)));
}

// What a key of a schema lists; nothing where it is not there, one where it is no list.
std::vector<Json> listed(const Json& schema, const char* key) {
  if (!schema.contains(key)) return {};
  if (!schema[key].is_array()) return {schema[key]};
  return schema[key].get<std::vector<Json>>();
}

void for_each_object(const Json& value, const std::function<void(const Json&)>& visit) {
  if (value.is_object()) visit(value);
  if (!value.is_structured()) return;
  for (const Json& item : value) for_each_object(item, visit);
}

TEST(OpenApi, IsTheFileAndNeedsNeitherKeyNorModel) {
  TestApi server({.keys = {"secret"}});
  const auto exchange = server.send("/openapi.json", std::string(), {}, "GET");
  const Json read = read_answer(*exchange).body;
  EXPECT_EQ(exchange->head.status, 200);
  EXPECT_EQ(exchange->head.content_type, "application/json");
  std::ifstream in(TG_SOURCE_DIR "/src/server/openapi.json", std::ios::binary);
  // Not EXPECT_EQ: it would print both.
  EXPECT_TRUE(exchange->head.body == std::string(std::istreambuf_iterator<char>(in), {}));
  EXPECT_EQ(read.at("openapi"), "3.1.0");
}

TEST(OpenApi, HasEveryRouteAndNoOther) {
  std::set<std::string> in_code;
  for (const Route& route : routes()) {
    const std::string path(route.path);
    in_code.insert(std::string(route.method) + " " + path);
    SCOPED_TRACE(path);
    ASSERT_TRUE(document().at("paths").contains(path));
    const Json& operation =
        document().at("paths").at(path).at(route.method == "GET" ? "get" : "post");
    // The document's own "security" asks for a key.
    EXPECT_EQ(!operation.contains("security"), route.needs_key);
    EXPECT_EQ(operation.at("responses").contains("401"), route.needs_key);
    EXPECT_EQ(operation.contains("requestBody"), route.method == "POST");
    EXPECT_EQ(path.find('{') != std::string::npos, operation.contains("parameters"));
    // Some path of the route finds it.
    const std::string some = std::string(route.prefix()) + (path.ends_with('}') ? "x/y" : "");
    EXPECT_EQ(find_route(some), &route);
  }
  std::set<std::string> in_document;
  std::set<std::string> ids;
  for (const auto& [path, item] : document().at("paths").items()) {
    for (const auto& [method, operation] : item.items()) {
      in_document.insert((method == "get" ? "GET " : "POST ") + path);
      EXPECT_TRUE(ids.insert(operation.at("operationId")).second) << path;
    }
  }
  EXPECT_EQ(in_document, in_code);
  EXPECT_EQ(find_route("/v1/models/"), nullptr);
  EXPECT_EQ(find_route("/v1/modelsx"), nullptr);
  EXPECT_EQ(find_route(""), nullptr);
}

TEST(OpenApi, EveryReferenceLeadsSomewhere) {
  int references = 0;
  for_each_object(document(), [&](const Json& object) {
    if (!object.contains("$ref")) return;
    ++references;
    const std::string reference = object["$ref"];
    ASSERT_TRUE(reference.starts_with("#/")) << reference;
    EXPECT_TRUE(document().contains(Json::json_pointer(reference.substr(1)))) << reference;
  });
  EXPECT_GT(references, 50);
}

// The fields of a request's schema, those of its "allOf" too.
Json fields_of(const char* schema) {
  const Json& own = document().at("components").at("schemas").at(schema);
  Json fields = Json::object();
  for (const Json& base : listed(own, "allOf")) fields.update(resolved(base).at("properties"));
  fields.update(own.at("properties"));
  return fields;
}

// "" when the body is taken, else the field that is to blame.
std::string field_to_blame(const std::string& schema, const std::string& body) {
  const auto json = parse_request_json(body);
  if (!json) return "the body: " + json.error().text();
  if (schema == "ChatRequest") {
    const auto read = read_chat_request(*json, SamplingParams());
    return read ? "" : read.error().place;
  }
  const auto read = read_completion_request(*json, SamplingParams());
  return read ? "" : read.error().place;
}

// A body in which each field alone may have any value that its schema allows.
const std::map<std::string, Json> kBodies = {
    {"CompletionRequest", {{"prompt", "Hi"}, {"echo", true}, {"n", 128}}},
    {"ChatRequest",
     {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}, {"logprobs", true}, {"n", 128}}}};

std::string body_with(const std::string& schema, const std::string& field,
                      const std::string& value) {
  Json body = kBodies.at(schema);
  body.erase(field);
  std::string text = body.dump();
  text.pop_back();
  return text + ",\"" + field + "\":" + value + "}";
}

// One more or less than a bound of whole numbers, or a bit off one of numbers.
std::string outside(const Json& bound, bool below, bool whole) {
  using Limits = std::numeric_limits<std::int64_t>;
  if (!whole) return Json(bound.get<double>() + (below ? -0.001 : 0.001)).dump();
  const auto number = bound.get<std::int64_t>();
  if (number == Limits::min() && below) return "-9223372036854775809";
  if (number == Limits::max() && !below) return "9223372036854775808";
  return std::to_string(number + (below ? -1 : 1));
}

TEST(OpenApi, RangesAreTheReaders) {
  int ranges = 0;
  for (const auto& [schema, unused] : kBodies) {
    const Json fields = fields_of(schema.c_str());
    for (const auto& [field, alternatives] : fields.items()) {
      const Json& about = alternatives.contains("anyOf") ? alternatives["anyOf"][0] : alternatives;
      if (!about.contains("minimum")) continue;
      ++ranges;
      SCOPED_TRACE(schema + "." + field);
      const bool whole = about.at("type")[0] == "integer";
      for (const char* bound : {"minimum", "maximum"}) {
        const Json& value = about.at(bound);
        EXPECT_EQ(field_to_blame(schema, body_with(schema, field, value.dump())), "");
        const std::string wrong = outside(value, std::string(bound) == "minimum", whole);
        EXPECT_EQ(field_to_blame(schema, body_with(schema, field, wrong)), field) << wrong;
      }
    }
  }
  EXPECT_GT(ranges, 25);
}

void add_types(const Json& given, std::set<std::string>& types) {
  const Json& schema = resolved(given);
  for (const Json& type : listed(schema, "type")) {
    types.insert(type);
    if (type == "number") types.insert("integer");
  }
  for (const Json& value : listed(schema, "enum")) types.insert(value.type_name());
  for (const Json& alternative : listed(schema, "anyOf")) add_types(alternative, types);
}

TEST(OpenApi, TypesAreTheReaders) {
  const std::map<std::string, std::string> values = {{"null", "null"},    {"boolean", "true"},
                                                     {"integer", "1"},    {"number", "0.5"},
                                                     {"string", "\"x\""}, {"object", R"({"x":1})"}};
  int refusals = 0;
  for (const auto& [schema, unused] : kBodies) {
    const Json fields = fields_of(schema.c_str());
    for (const auto& [field, about] : fields.items()) {
      std::set<std::string> types;
      add_types(about, types);
      ASSERT_FALSE(types.empty()) << field;
      for (const auto& [type, value] : values) {
        if (types.contains(type)) continue;
        ++refusals;
        EXPECT_TRUE(field_to_blame(schema, body_with(schema, field, value)).starts_with(field))
            << schema << "." << field << ": " << value;
      }
      if (types.contains("null")) {
        EXPECT_EQ(field_to_blame(schema, body_with(schema, field, "null")), "") << field;
      }
    }
  }
  EXPECT_GT(refusals, 150);
}

TEST(OpenApi, DefaultsAreThoseOfAnEmptyRequest) {
  const AnswerRequest answer;
  const SamplingParams& sampling = answer.sampling;
  const std::map<std::string, Json> in_code = {
      {"temperature", 1.0},  // of `llama-tg serve`
      {"top_p", sampling.top_p},
      {"top_k", sampling.top_k},
      {"min_p", sampling.min_p},
      {"presence_penalty", sampling.presence_penalty},
      {"frequency_penalty", sampling.frequency_penalty},
      {"repetition_penalty", sampling.repetition_penalty},
      {"n", answer.choices},
      {"max_tokens", kDefaultCompletionTokens},
      {"min_tokens", answer.min_tokens},
      {"ignore_eos", answer.ignore_eos},
      {"include_stop_str_in_output", answer.keeps_stop_text},
      {"skip_special_tokens", answer.skip_special},
      {"priority", answer.priority},
      {"stream", answer.stream},
      {"echo", CompletionRequest().echo},
      {"logprobs", sampling.top_logprobs >= 0},
      {"parallel_tool_calls", ChatRequest().parallel_tool_calls},
      {"add_generation_prompt", ChatMessages().add_generation_prompt}};
  std::size_t defaults = 0;
  for (const auto& [schema, unused] : kBodies) {
    const Json fields = fields_of(schema.c_str());
    for (const auto& [field, about] : fields.items()) {
      if (!about.contains("default")) continue;
      ++defaults;
      ASSERT_TRUE(in_code.contains(field)) << field;
      EXPECT_EQ(about["default"], in_code.at(field)) << field;
    }
  }
  EXPECT_GT(defaults, in_code.size());
}

TEST(OpenApi, ExamplesAreAnswered) {
  TestApi server;
  server.load();
  for (const Route& route : routes()) {
    if (route.method != "POST") continue;
    Json example = document().at("paths").at(std::string(route.path)).at("post");
    example = example.at("requestBody").at("content").at("application/json").at("example");
    if (example.contains("tokens")) example["tokens"] = {100, 101};  // of the tiny vocabulary
    EXPECT_EQ(server.post(std::string(route.path), example).status, 200) << route.path;
  }
}

}  // namespace
}  // namespace tg::test
