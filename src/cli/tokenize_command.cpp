// llama-tg tokenize: text to token ids, and back with --decode.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <iterator>
#include <memory>

#include "cli/commands.h"
#include "cli/opened_model.h"
#include "cli/option_values.h"
#include "cli/print.h"
#include "cli/ranks.h"

namespace tg {
namespace {

struct TokenizeOptions {
  ModelOptions model;
  std::optional<std::string> text;
  std::string decode;
  bool special = false;
  bool bos = false;
  bool pieces = false;
};

// Readable on one line: what is not printable ASCII as \xHH.
std::string visible(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (u < 0x20 || u == 0x7f || u == '\\') {
      out += fmt::format("\\x{:02x}", u);
    } else {
      out += c;
    }
  }
  return out;
}

Result<int> run(const TokenizeOptions& o) {
  TG_RETURN_IF_ERROR(needs_one_process("tokenize"));
  TG_ASSIGN(const std::string path, model_path(o.model));
  TG_ASSIGN(const std::shared_ptr<const Tokenizer> tokenizer, open_tokenizer(path));
  if (!o.decode.empty()) {
    const Result<std::vector<TokenId>> ids = parse_id_list(o.decode);
    if (!ids) return at_place(ids.error(), "--decode");
    for (const TokenId id : *ids) {
      if (id >= 0 && id < tokenizer->vocab_size()) continue;
      return error(ErrorCode::kBadArgument, "--decode: id {}: the vocabulary has 0..{}", id,
                   tokenizer->vocab_size() - 1);
    }
    print_out("{}\n", tokenizer->decode(*ids, /*skip_special=*/false));
    return 0;
  }
  std::string text;
  if (o.text) {
    text = *o.text;
  } else {
    text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  const SpecialTokens mode = o.special ? SpecialTokens::kParse : SpecialTokens::kAsText;
  const std::vector<TokenId> ids =
      o.bos ? tokenizer->encode_prompt(text, mode) : tokenizer->encode(text, mode);
  if (!o.pieces) {
    print_out("{}\n", fmt::join(ids, ","));
    return 0;
  }
  for (const TokenId id : ids) print_out("{:7} {}\n", id, visible(tokenizer->token_bytes(id)));
  return 0;
}

}  // namespace

void add_tokenize_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<TokenizeOptions>();
  CLI::App* app = program.add_subcommand("tokenize", "text to token ids, or back with --decode");
  add_checkpoint_options(*app, o->model);
  app->add_option("--text", o->text, "the text; default: stdin to its end");
  app->add_option("--decode", o->decode, "ids to turn into text: 1,2,3");
  app->add_flag("--special", o->special, "the text of special tokens becomes them");
  app->add_flag("--bos", o->bos, "put the model's begin-of-text token in front, if it wants one");
  app->add_flag("--pieces", o->pieces, "one token a line, with its text");
  app->callback([o, &chosen] { chosen = [o] { return run(*o); }; });
}

}  // namespace tg
