// What: the half of the parser that reads expressions; the tags of parser.cpp are built on it.
// Who owns: a parser owns the tokens of one source. Thread: one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace tg::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  // Counts how deep the parser is while one of its functions runs.
  struct Nest {
    explicit Nest(ExpressionParser& owner) : parser(owner) { ++parser.depth_; }
    ~Nest() { --parser.depth_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;
    bool too_deep() const;
    ExpressionParser& parser;
  };

  // The token here, and the same with a step behind it.
  const Token& current() const { return tokens_[at_]; }
  const Token& next() { return tokens_[current().kind == Token::Kind::kEnd ? at_ : at_++]; }
  bool is_operator(std::string_view text) const;
  bool is_name(std::string_view text) const;
  // True, and behind it, if it is here.
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);

  tl::unexpected<Error> expected(std::string_view what) const;
  tl::unexpected<Error> too_deep() const;
  Status expect_operator(std::string_view text);
  Result<std::string> expect_name();

  // One expression, or several with commas between them: a tuple.
  Result<ExpressionPtr> parse_tuple(bool with_conditional);
  // One expression, "a if b else c" included.
  Result<ExpressionPtr> parse_expression();
  // | filter, is test, and calls of what they give. With `named_first` the first filter's name
  // stands here, without "|" (a filter block). A null node stands for the text of a block.
  Result<ExpressionPtr> parse_filters(ExpressionPtr node, bool named_first);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int conditions_ = 0;                // conditional parts around the current token
  MacroDefinition* macro_ = nullptr;  // whose body is being read
  std::optional<Error> unknown_;  // the first unknown filter or test outside of conditional parts

 private:
  bool ends_tuple() const;
  // From the weakest operators to the strongest.
  Result<ExpressionPtr> parse_or();
  Result<ExpressionPtr> parse_and();
  Result<ExpressionPtr> parse_not();
  std::string comparison_operator();
  Result<ExpressionPtr> parse_comparison();
  Result<ExpressionPtr> parse_binary(int least);
  Result<ExpressionPtr> parse_unary(bool with_filters);
  Result<ExpressionPtr> parse_primary();
  // Reads one expression into the node's children.
  Status add_child(Expression& node);
  Result<ExpressionPtr> parse_postfix(ExpressionPtr node);
  Result<ExpressionPtr> parse_subscript(ExpressionPtr node, int line);
  Result<ExpressionPtr> parse_call(ExpressionPtr callee);
  // "(" a, b, name=c, *d, **e ")" into children and named.
  Status parse_arguments(Expression& call);
  void note_unknown(const Expression& node, std::string_view what);
  Result<std::string> parse_builtin_name();
  Result<ExpressionPtr> parse_test(ExpressionPtr subject);

  int depth_ = 0;
};

}  // namespace tg::jinja
