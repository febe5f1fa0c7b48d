#include "text/jinja/parser.h"

#include <algorithm>

#include "text/jinja/expression_parser.h"

namespace tg::jinja {
namespace {

using TokenKind = Token::Kind;

class Parser : ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Result<Block> run() {
    TG_ASSIGN(Block block, parse_block({}));
    if (unknown_) return tl::unexpected<Error>(std::move(*unknown_));
    return block;
  }

 private:
  Status expect_block_end() {
    if (current().kind != TokenKind::kBlockEnd) return expected("'%}'");
    ++at_;
    return {};
  }

  // Up to a tag that begins with one of these names, which stays to be read; to the end without
  // names.
  Result<Block> parse_block(const std::vector<std::string_view>& ends) {
    const Nest nest(*this);
    if (nest.too_deep()) return too_deep();
    const int opened = current().line;
    Block block;
    while (true) {
      const Token& token = current();
      if (token.kind == TokenKind::kEnd) {
        if (ends.empty()) return block;
        return error_at(opened, ErrorCode::kBadInput, "the block that begins here has no '{}'",
                        ends.back());
      }
      if (token.kind == TokenKind::kData) {
        auto text = make_statement(Statement::Kind::kText);
        text->text = next().text;
        block.push_back(std::move(text));
      } else if (token.kind == TokenKind::kVariableBegin) {
        auto output = make_statement(Statement::Kind::kOutput);
        ++at_;
        TG_ASSIGN(output->value, parse_tuple(true));
        if (current().kind != TokenKind::kVariableEnd) return expected("'}}'");
        ++at_;
        block.push_back(std::move(output));
      } else {
        ++at_;  // {%
        if (current().kind != TokenKind::kName) return expected("the name of a tag");
        if (std::find(ends.begin(), ends.end(), current().text) != ends.end()) return block;
        TG_ASSIGN(auto statement, parse_statement());
        block.push_back(std::move(statement));
      }
    }
  }

  // From behind the %} of the opening tag to the closing one, which is read too.
  Result<Block> parse_body(std::string_view end) {
    TG_RETURN_IF_ERROR(expect_block_end());
    TG_ASSIGN(Block block, parse_block({end}));
    ++at_;
    TG_RETURN_IF_ERROR(expect_block_end());
    return block;
  }

  // A body that break and continue may not leave.
  Result<Block> parse_closed_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    auto body = parse_body(end);
    loops_ = loops;
    return body;
  }

  std::unique_ptr<Statement> make_statement(Statement::Kind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = current().line;
    return statement;
  }

  Result<std::unique_ptr<Statement>> parse_statement() {
    using S = Statement::Kind;
    const std::string tag = current().text;
    auto statement = make_statement(S::kText);
    ++at_;
    if (tag == "if") {
      statement->kind = S::kIf;
      TG_RETURN_IF_ERROR(parse_if(*statement));
    } else if (tag == "for") {
      statement->kind = S::kFor;
      TG_RETURN_IF_ERROR(parse_for(*statement));
    } else if (tag == "set") {
      TG_RETURN_IF_ERROR(parse_set(*statement));
    } else if (tag == "macro") {
      statement->kind = S::kMacro;
      TG_ASSIGN(statement->macro.name, expect_name());
      TG_RETURN_IF_ERROR(parse_macro(statement->macro, "endmacro", true));
    } else if (tag == "call") {
      statement->kind = S::kCall;
      TG_RETURN_IF_ERROR(parse_call_block(*statement));
    } else if (tag == "filter") {
      statement->kind = S::kFilter;
      TG_ASSIGN(statement->filter, parse_filters(nullptr, true));
      TG_ASSIGN(statement->body, parse_closed_body("endfilter"));
    } else if (tag == "with") {
      statement->kind = S::kWith;
      TG_RETURN_IF_ERROR(parse_with(*statement));
    } else if (tag == "generation") {
      statement->kind = S::kGeneration;
      TG_ASSIGN(statement->body, parse_closed_body("endgeneration"));
    } else if (tag == "break" || tag == "continue") {
      statement->kind = tag == "break" ? S::kBreak : S::kContinue;
      if (loops_ == 0) {
        return error_at(statement->line, ErrorCode::kBadInput, "'{}' outside of a for loop", tag);
      }
      TG_RETURN_IF_ERROR(expect_block_end());
    } else if (tag.starts_with("end") || tag == "else" || tag == "elif") {
      return error_at(statement->line, ErrorCode::kBadInput, "'{}' closes nothing", tag);
    } else {
      return error_at(statement->line, ErrorCode::kUnsupported, "the tag '{}' is not supported",
                      tag);
    }
    return statement;
  }

  Status parse_if(Statement& statement) {
    ++conditions_;
    bool more = true;
    while (more) {
      Statement::Branch branch;
      TG_ASSIGN(branch.condition, parse_tuple(false));
      TG_RETURN_IF_ERROR(expect_block_end());
      TG_ASSIGN(branch.body, parse_block({"elif", "else", "endif"}));
      statement.branches.push_back(std::move(branch));
      more = skip_name("elif");
    }
    if (skip_name("else")) {
      Statement::Branch otherwise;
      TG_ASSIGN(otherwise.body, parse_body("endif"));
      statement.branches.push_back(std::move(otherwise));
    } else {
      ++at_;  // endif
      TG_RETURN_IF_ERROR(expect_block_end());
    }
    --conditions_;
    return {};
  }

  Status parse_for(Statement& statement) {
    ++for_blocks_;
    TG_ASSIGN(statement.target, parse_target("in"));
    if (!skip_name("in")) return expected("'in'");
    TG_ASSIGN(statement.value, parse_tuple(false));
    if (skip_name("if")) {
      TG_ASSIGN(statement.condition, parse_expression());
    }
    statement.is_recursive = skip_name("recursive");
    TG_RETURN_IF_ERROR(expect_block_end());
    ++loops_;
    TG_ASSIGN(statement.body, parse_block({"else", "endfor"}));
    --loops_;
    if (skip_name("else")) {
      TG_ASSIGN(statement.otherwise, parse_body("endfor"));
    } else {
      ++at_;  // endfor
      TG_RETURN_IF_ERROR(expect_block_end());
    }
    --for_blocks_;
    return {};
  }

  Status parse_set(Statement& statement) {
    TG_ASSIGN(statement.target, parse_target("="));
    if (skip_operator("=")) {
      statement.kind = Statement::Kind::kSet;
      TG_ASSIGN(statement.value, parse_tuple(true));
      return expect_block_end();
    }
    statement.kind = Statement::Kind::kSetBlock;
    if (is_operator("|")) {
      TG_ASSIGN(statement.filter, parse_filters(nullptr, false));
    }
    TG_ASSIGN(statement.body, parse_closed_body("endset"));
    return {};
  }

  Status parse_with(Statement& statement) {
    while (current().kind != TokenKind::kBlockEnd) {
      if (!statement.values.empty()) TG_RETURN_IF_ERROR(expect_operator(","));
      TG_ASSIGN(std::string name, expect_name());
      statement.target.places.push_back({std::move(name), {}});
      TG_RETURN_IF_ERROR(expect_operator("="));
      TG_ASSIGN(ExpressionPtr value, parse_expression());
      statement.values.push_back(std::move(value));
    }
    TG_ASSIGN(statement.body, parse_body("endwith"));
    return {};
  }

  Status parse_call_block(Statement& statement) {
    // The signature of caller() comes first: {% call(item) list(items) %}.
    MacroDefinition& macro = statement.macro;
    if (is_operator("(")) TG_RETURN_IF_ERROR(parse_signature(macro));
    TG_ASSIGN(statement.value, parse_expression());
    if (statement.value->kind != Expression::Kind::kCall) {
      return error_at(statement.line, ErrorCode::kBadInput, "'call' needs a call");
    }
    return parse_macro(macro, "endcall", false);
  }

  Status parse_macro(MacroDefinition& macro, std::string_view end, bool has_signature) {
    macro.line = current().line;
    if (has_signature) TG_RETURN_IF_ERROR(parse_signature(macro));
    MacroDefinition* outer = std::exchange(macro_, &macro);
    TG_ASSIGN(Block body, parse_closed_body(end));
    macro.body = std::make_unique<Block>(std::move(body));
    macro_ = outer;
    return {};
  }

  Status parse_signature(MacroDefinition& macro) {
    TG_RETURN_IF_ERROR(expect_operator("("));
    while (!is_operator(")")) {
      if (!macro.parameters.empty()) TG_RETURN_IF_ERROR(expect_operator(","));
      TG_ASSIGN(std::string name, expect_name());
      macro.parameters.push_back(std::move(name));
      if (skip_operator("=")) {
        TG_ASSIGN(ExpressionPtr value, parse_expression());
        macro.defaults.push_back(std::move(value));
      } else if (!macro.defaults.empty()) {
        return error_at(current().line, ErrorCode::kBadInput,
                        "the parameter '{}' without default follows one with a default",
                        macro.parameters.back());
      }
    }
    return expect_operator(")");
  }

  // Names with commas between them, in parentheses or not, up to the word or operator `end`.
  Result<Target> parse_target(std::string_view end) {
    Target target;
    const bool parenthesis = skip_operator("(");
    while (true) {
      Target::Place place;
      TG_ASSIGN(place.name, expect_name());
      if (place.name == "true" || place.name == "false" || place.name == "none" ||
          place.name == "True" || place.name == "False" || place.name == "None") {
        return error_at(current().line, ErrorCode::kBadInput, "can not assign to '{}'", place.name);
      }
      if (place.name == "loop" && for_blocks_ > 0) {
        return error_at(current().line, ErrorCode::kBadInput,
                        "can not assign to 'loop' inside a for block");
      }
      if (end == "=" && skip_operator(".")) {
        TG_ASSIGN(place.attribute, expect_name());
      }
      target.places.push_back(std::move(place));
      if (!skip_operator(",")) break;
      target.is_tuple = true;
      if (is_name(end) || is_operator(end) || is_operator(")")) break;
    }
    if (parenthesis) TG_RETURN_IF_ERROR(expect_operator(")"));
    return target;
  }

  int loops_ = 0;       // for loops that break would leave
  int for_blocks_ = 0;  // around this place, through macros and other bodies too
};

}  // namespace

Result<Block> parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return error_at(1, ErrorCode::kOutOfCapacity, "the template has {} bytes; the limit is {}",
                    source.size(), kMaxSourceBytes);
  }
  TG_ASSIGN(std::vector<Token> tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace tg::jinja
