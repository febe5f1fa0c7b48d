#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "text/shielded_text.h"
#include "text/tokenizer.h"

namespace tg {
namespace {

using Json = nlohmann::ordered_json;

std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Json chat_golden() { return Json::parse(read_whole(TG_SOURCE_DIR "/tests/golden/chat.json")); }

ChatTemplate builtin(const std::string& name) {
  auto made = load_chat_template(name);
  EXPECT_TRUE(made) << made.error().text();
  return *made;
}

ChatInput llama_input(const Json& messages) {
  ChatInput input;
  input.messages = messages;
  input.bos_token = "<|begin_of_text|>";
  input.eos_token = "<|eot_id|>";
  return input;
}

// The arguments of transformers' apply_chat_template.
void set_arguments(const Json& arguments, ChatInput& input) {
  for (const auto& [name, value] : arguments.items()) {
    if (name == "add_generation_prompt") {
      input.add_generation_prompt = value;
    } else if (name == "date_string") {
      input.date_string = value.get<std::string>();
    } else if (name == "tools") {
      input.tools = value;
    } else {
      input.extra[name] = value;
    }
  }
}

// nullptr when the file is not there: it is fetched from a package, not kept in the repository.
std::shared_ptr<const Tokenizer> llama3_tokenizer() {
  const std::string path = TG_SOURCE_DIR "/models/llama3-tokenizer.model";
  if (!std::filesystem::exists(path)) return nullptr;
  auto loaded = load_tiktoken(path);
  EXPECT_TRUE(loaded) << loaded.error().text();
  return loaded ? *loaded : nullptr;
}

TEST(ChatTemplate, Llama3IsWhatTransformersGives) {
  const ChatTemplate made = builtin("llama3");
  const auto tokenizer = llama3_tokenizer();
  const Json golden = chat_golden();
  int texts = 0;
  int errors = 0;
  for (const auto& [name, one] : golden["transformers"].items()) {
    ChatInput input = llama_input(one["messages"]);
    set_arguments(one["arguments"], input);
    const auto text = made.render(input);
    if (one.contains("error")) {
      ++errors;
      ASSERT_FALSE(text) << name;
      EXPECT_EQ(text.error().message, one["error"].get<std::string>()) << name;
      EXPECT_EQ(text.error().code, ErrorCode::kBadInput) << name;
      EXPECT_TRUE(text.error().place.starts_with("llama3: line ")) << text.error().place;
      continue;
    }
    ++texts;
    ASSERT_TRUE(text) << name << ": " << text.error().text();
    EXPECT_EQ(*text, one["text"].get<std::string>()) << name;
    if (tokenizer) {
      EXPECT_EQ(tokenizer->encode_prompt(*text, SpecialTokens::kParse),
                one["ids"].get<std::vector<TokenId>>())
          << name;
    }
  }
  EXPECT_EQ(texts, 28);
  EXPECT_EQ(errors, 2);
}

TEST(ChatTemplate, Llama3IsTheGoldenTemplate) {
  EXPECT_EQ(*find_builtin_template("llama3"),
            read_whole(TG_SOURCE_DIR "/tests/golden/llama31_equiv.jinja"));
}

TEST(ChatTemplate, Llama3MetaIsWhatMetasChatFormatGives) {
  const ChatTemplate made = builtin("llama3-meta");
  const auto tokenizer = llama3_tokenizer();
  const Json golden = chat_golden();
  int cases = 0;
  for (const auto& [name, one] : golden["meta_chat_format"].items()) {
    ++cases;
    const auto text = made.render(llama_input(one["messages"]));
    ASSERT_TRUE(text) << name << ": " << text.error().text();
    EXPECT_EQ(without_marks(*text), one["text"].get<std::string>()) << name;
    if (!tokenizer) continue;
    // Meta never reads special tokens in contents: those are shielded before the rendering.
    ChatInput shielded = llama_input(one["messages"]);
    for (Json& message : shielded.messages) {
      message["content"] = shield_special(*tokenizer, message["content"].get<std::string>());
    }
    const auto marked = made.render(shielded);
    ASSERT_TRUE(marked) << name;
    const std::vector<TokenId> ids = encode_shielded(*tokenizer, *marked);
    const auto meta_ids = one["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(ids, meta_ids) << name;
  }
  EXPECT_EQ(cases, 10);
}

TEST(ChatTemplate, Llama3MetaTakesToolCallsOfTheOpenAiApiToo) {
  const Json messages = Json::parse(R"([
      {"role": "user", "content": "W?"},
      {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function",
       "function": {"name": "get_weather", "arguments": {"b": 1, "a": "Zürich"}}}]}])");
  ChatInput input = llama_input(messages);
  input.add_generation_prompt = false;
  const auto text = builtin("llama3-meta").render(input);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(
      without_marks(*text),
      "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nW?<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n"
      R"({"type": "function", "name": "get_weather", "parameters": {"b": 1, "a": "Z\u00fcrich"}})"
      "<|eot_id|>");
}

TEST(ChatTemplate, ChatMl) {
  ChatInput input;
  input.messages = {{{"role", "system"}, {"content", "Be brief."}},
                    {{"role", "user"}, {"content", " Hi\n"}}};
  const auto text = builtin("chatml").render(input);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(*text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
            "<|im_start|>assistant\n");
}

// The template inside SmolLM2's GGUF file (Apache-2.0).
TEST(ChatTemplate, SmolLm2) {
  const auto made = ChatTemplate::parse(
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
      "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|im_start|>assistant\n' }}{% endif %}",
      "smollm2");
  ASSERT_TRUE(made) << made.error().text();
  ChatInput input;
  input.messages = {{{"role", "user"}, {"content", "What is gravity?"}}};
  auto text = made->render(input);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(*text,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nWhat is gravity?<|im_end|>\n"
            "<|im_start|>assistant\n");
  input.messages = {{{"role", "system"}, {"content", "S"}},
                    {{"role", "user"}, {"content", "U"}},
                    {{"role", "assistant"}, {"content", "A"}}};
  input.add_generation_prompt = false;
  text = made->render(input);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(*text,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
            "<|im_start|>assistant\nA<|im_end|>\n");
}

TEST(ChatTemplate, TheClockComesFromOutside) {
  const auto made = ChatTemplate::parse(
      "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}none{% endif %}",
      "dates");
  ASSERT_TRUE(made);
  ChatInput input;
  EXPECT_EQ(made->render(input).value(), "none");
  std::tm day{};
  day.tm_year = 124;
  day.tm_mon = 11;
  day.tm_mday = 6;
  input.now = day;
  EXPECT_EQ(made->render(input).value(), "06 Dec 2024");
}

TEST(ChatTemplate, NullKeysAreAbsentAndOrderIsKept) {
  const auto made =
      ChatTemplate::parse("{{ messages | tojson }}{{ tools | tojson }}{{ x }}{{ documents }}", "t");
  ASSERT_TRUE(made);
  ChatInput input;
  input.messages = Json::parse(
      R"([{"role": "assistant", "content": null, "tool_calls": [{"z": null, "a": {"y": 1, "b": 2}}]}])");
  input.tools = Json::parse(R"([{"name": "f", "arguments": {"q": 1, "c": 2}}])");
  input.extra["x"] = "X";
  EXPECT_EQ(made->render(input).value(),
            R"([{"role": "assistant", "tool_calls": [{"z": null, "a": {"y": 1, "b": 2}}]}])"
            R"([{"name": "f", "arguments": {"q": 1, "c": 2}}])"
            "XNone");
}

TEST(ChatTemplate, RefusesInputOfAnotherForm) {
  const ChatTemplate made = builtin("chatml");
  const auto message_of = [&](const ChatInput& input) {
    const auto text = made.render(input);
    return text ? "rendered: " + *text : text.error().text();
  };
  ChatInput input;
  input.messages = "Hi";
  EXPECT_EQ(message_of(input), "messages must be an array, not string");
  input.messages = {"Hi", "you"};
  EXPECT_EQ(message_of(input), "messages[0] must be an object, not string");
  input.messages = Json::array({{{"role", "user"}, {"content", "a\xff"}}});
  EXPECT_EQ(message_of(input).substr(0, 13), "messages[0]: ") << message_of(input);
  EXPECT_NE(message_of(input).find("UTF-8"), std::string::npos) << message_of(input);
  input.messages = Json::array();
  input.extra = Json::array();
  EXPECT_EQ(message_of(input), "extra template variables must be an object, not array");
  Json deep = 1;
  for (int i = 0; i < 200; ++i) deep = Json::array({std::move(deep)});
  input.extra = Json::object();
  input.extra["deep"] = deep;
  EXPECT_EQ(message_of(input), "deep: JSON nested deeper than 128");
}

class ChatTemplateFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = std::string(TG_BINARY_DIR) + "/chat-template-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    directory_ = folder;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
    return (directory_ / name).string();
  }
  std::filesystem::path directory_;
};

TEST_F(ChatTemplateFiles, HuggingFaceDirectory) {
  auto chat = read_hf_chat_template(directory_.string(), false);
  ASSERT_TRUE(chat) << chat.error().text();
  EXPECT_EQ(chat->chat_template, "");

  write("tokenizer_config.json",
        R"({"chat_template": "one", "bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  chat = read_hf_chat_template(directory_.string(), false);
  ASSERT_TRUE(chat) << chat.error().text();
  EXPECT_EQ(chat->chat_template, "one");
  EXPECT_EQ(chat->bos_token, "<s>");
  EXPECT_EQ(chat->eos_token, "</s>");
  EXPECT_TRUE(chat->place.ends_with("tokenizer_config.json"));

  write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "two"},
                                                       {"name": "default", "template": "one"}],
                                     "bos_token": null})");
  EXPECT_EQ(read_hf_chat_template(directory_.string(), false)->chat_template, "one");
  EXPECT_EQ(read_hf_chat_template(directory_.string(), true)->chat_template, "two");

  write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "two"}]})");
  chat = read_hf_chat_template(directory_.string(), false);
  ASSERT_FALSE(chat);
  EXPECT_NE(chat.error().text().find("\"default\""), std::string::npos) << chat.error().text();

  // The file of its own wins, and a broken list is not looked at then.
  write("chat_template.jinja", "three\n");
  chat = read_hf_chat_template(directory_.string(), false);
  ASSERT_TRUE(chat) << chat.error().text();
  EXPECT_EQ(chat->chat_template, "three\n");

  write("tokenizer_config.json", "{");
  chat = read_hf_chat_template(directory_.string(), false);
  ASSERT_FALSE(chat);
  EXPECT_TRUE(chat.error().text().ends_with("tokenizer_config.json: not a JSON object"))
      << chat.error().text();
}

TEST_F(ChatTemplateFiles, OrderOfChoice) {
  const std::string path = write("mine.jinja", "mine");
  ChatTemplateSources sources;
  std::string token;
  sources.has_token = [&](std::string_view text) { return text == token; };
  const auto name_of = [&] {
    const auto chosen = choose_chat_template(sources);
    return chosen ? chosen->name() : "error: " + chosen.error().text();
  };
  EXPECT_EQ(name_of().substr(0, 39), "error: the checkpoint has no chat templ");
  token = "<|im_start|>";
  EXPECT_EQ(name_of(), "chatml");
  token = "<|start_header_id|>";
  EXPECT_EQ(name_of(), "llama3");
  sources.from_checkpoint = "{{ messages }}";
  sources.checkpoint_place = "model.gguf";
  EXPECT_EQ(name_of(), "model.gguf");
  sources.requested = path;
  EXPECT_EQ(name_of(), path);
  sources.requested = "llama3-meta";
  EXPECT_EQ(name_of(), "llama3-meta");
  sources.requested = path + ".absent";
  EXPECT_NE(name_of().find(path + ".absent"), std::string::npos) << name_of();
  EXPECT_NE(name_of().find("built-in chat templates are"), std::string::npos) << name_of();
  sources.requested = "";
  sources.from_checkpoint = "\n{% foo %}";
  EXPECT_EQ(name_of(), "error: model.gguf: line 2: the tag 'foo' is not supported");
}

}  // namespace
}  // namespace tg
