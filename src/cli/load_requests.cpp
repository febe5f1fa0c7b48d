#include "cli/load_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <random>

#include "base/mapped_file.h"
#include "cli/prompts.h"

namespace tg {
namespace {

using Json = nlohmann::ordered_json;

// With a space in front each is one token of the vocabularies that are in use.
constexpr std::array kWords = {
    "time",     "year",    "people", "way",      "day",    "man",      "thing",  "woman",
    "life",     "child",   "world",  "school",   "state",  "family",   "group",  "country",
    "hand",     "part",    "place",  "case",     "week",   "company",  "system", "program",
    "question", "work",    "number", "night",    "point",  "home",     "water",  "room",
    "mother",   "area",    "money",  "story",    "fact",   "month",    "lot",    "right",
    "study",    "book",    "eye",    "job",      "word",   "business", "issue",  "side",
    "kind",     "head",    "house",  "service",  "friend", "father",   "power",  "hour",
    "game",     "line",    "end",    "law",      "car",    "city",     "name",   "team",
    "minute",   "idea",    "body",   "back",     "parent", "face",     "level",  "office",
    "door",     "health",  "person", "art",      "war",    "history",  "party",  "result",
    "change",   "morning", "reason", "research", "girl",   "food",     "moment", "air",
    "teacher",  "force",   "order",  "foot",     "music",  "table",    "paper",  "river",
    "sound",    "light",   "green",  "small",    "large",  "early",    "young",  "open",
    "long",     "great",   "little", "own",      "old",    "big",      "high",   "good",
    "new",      "first",   "last",   "next",     "true",   "full",     "clear",  "hard"};

// A number that has nothing in common with that of its neighbours (the finaliser of splitmix64).
std::uint64_t scattered(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// `stream` 0 is the shared prefix, the rest the requests.
std::mt19937_64 random_numbers(std::uint64_t seed, std::uint64_t stream) {
  return std::mt19937_64(scattered(scattered(seed) + stream));
}

void append_ids(std::mt19937_64 random, const IdRange& range, std::int64_t count, Json& ids) {
  const auto choices = static_cast<std::uint64_t>(range.last - range.first) + 1;
  for (std::int64_t i = 0; i < count; ++i) {
    ids.push_back(range.first + static_cast<TokenId>(random() % choices));
  }
}

void append_words(std::mt19937_64 random, std::int64_t count, std::string& text) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (!text.empty()) text += ' ';
    text += kWords[random() % kWords.size()];
  }
}

Json prompt_of(const RequestPlan& plan, std::size_t index) {
  if (plan.form == PromptForm::kTexts) return plan.texts[index % plan.texts.size()];
  const std::mt19937_64 prefix = random_numbers(plan.seed, 0);
  const std::mt19937_64 own = random_numbers(plan.seed, index + 1);
  if (plan.form == PromptForm::kIds) {
    Json ids = Json::array();
    append_ids(prefix, plan.ids, plan.prefix_len, ids);
    append_ids(own, plan.ids, plan.input_len, ids);
    return ids;
  }
  std::string text;
  append_words(prefix, plan.prefix_len, text);
  append_words(own, plan.input_len, text);
  return text;
}

Json parse_quietly(std::string_view text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace

Status check_request_plan(const RequestPlan& plan) {
  if (!plan.extra_body.empty() && !parse_quietly(plan.extra_body).is_object()) {
    return error(ErrorCode::kBadArgument, R"('{}': need a JSON object like {{"top_k": 1}})",
                 plan.extra_body);
  }
  return {};
}

LoadRequest make_load_request(const RequestPlan& plan, std::size_t index) {
  Json body = {{"model", plan.model}};
  if (plan.chat) {
    body["messages"] = Json::array({{{"role", "user"}, {"content", prompt_of(plan, index)}}});
  } else {
    body["prompt"] = prompt_of(plan, index);
  }
  body["max_tokens"] = plan.output_len;
  body["temperature"] = plan.temperature;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  // Only where it is wanted: a server may refuse a field that it does not know.
  if (plan.ignore_eos) body["ignore_eos"] = true;
  if (!plan.extra_body.empty()) body.update(parse_quietly(plan.extra_body));
  LoadRequest request;
  request.body = body.dump();
  if (plan.form != PromptForm::kTexts) request.prompt_tokens = plan.prefix_len + plan.input_len;
  return request;
}

Result<std::vector<std::string>> read_load_texts(const std::string& path) {
  TG_ASSIGN(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  const Json json = parse_quietly({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const auto is_text = [](const Json& value) {
    return value.is_string() && !value.get_ref<const std::string&>().empty();
  };
  if (json.is_array() && !json.empty() && std::all_of(json.begin(), json.end(), is_text)) {
    return json.get<std::vector<std::string>>();
  }
  TG_ASSIGN(const std::vector<PromptEntry> entries, read_prompt_file(path));
  return load_prompts(path, entries, entries.size(), /*instruct=*/false, ContextOptions{});
}

}  // namespace tg
