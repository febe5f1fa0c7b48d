#include "text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/builtins.h"
#include "text/jinja/parser.h"
#include "text/utf8.h"

namespace tg::jinja {
namespace {

using Kind = Expression::Kind;
using TokenKind = Token::Kind;

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return shown_text(token.text);
  }
}

ExpressionPtr make(Kind kind, int line, std::string name = {}) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  node->name = std::move(name);
  return node;
}

// Binary operators by how tightly they bind; comparisons and `not` are not among them.
int strength(const Token& token) {
  if (token.kind != TokenKind::kOperator) return 0;
  const std::string& op = token.text;
  if (op == "+" || op == "-") return 1;
  if (op == "~") return 2;
  if (op == "*" || op == "/" || op == "//" || op == "%") return 3;
  return op == "**" ? 4 : 0;
}

// Takes the depths of the children over. Chains such as a + b + c + ... grow without recursion of
// the parser, so every node with children passes here.
Result<ExpressionPtr> finish(ExpressionPtr node) {
  for (const ExpressionPtr& child : node->children) {
    if (child) node->depth = std::max(node->depth, child->depth + 1);
  }
  for (const auto& [name, child] : node->named) {
    node->depth = std::max(node->depth, child->depth + 1);
  }
  if (node->depth > kMaxParseDepth) {
    return error_at(node->line, ErrorCode::kOutOfCapacity, "an expression nested deeper than {}",
                    kMaxParseDepth);
  }
  return node;
}

Result<ExpressionPtr> two(Kind kind, int line, ExpressionPtr left, ExpressionPtr right) {
  auto node = make(kind, line);
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return finish(std::move(node));
}

Result<Value> number(const Token& token) {
  const std::string& text = token.text;
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    const auto done = std::from_chars(text.data(), text.data() + text.size(), value);
    if (done.ec == std::errc()) return Value(value);
  } else {
    std::int64_t value = 0;
    const char kind = text.size() > 2 ? static_cast<char>(text[1] | 0x20) : ' ';
    const int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    const char* start = text.data() + (base == 10 ? 0 : 2);
    const auto done = std::from_chars(start, text.data() + text.size(), value, base);
    // A decimal with a leading zero is no number, as in Python.
    const bool octal_like =
        base == 10 && text[0] == '0' && text.find_first_not_of('0') != std::string::npos;
    if (done.ec == std::errc() && !octal_like) return Value(value);
  }
  return error_at(token.line, ErrorCode::kBadInput, "{} is not a number of 64 bits",
                  shown_text(text));
}

}  // namespace

bool ExpressionParser::Nest::too_deep() const { return parser.depth_ > kMaxParseDepth; }

bool ExpressionParser::is_operator(std::string_view text) const {
  return current().kind == TokenKind::kOperator && current().text == text;
}

bool ExpressionParser::is_name(std::string_view text) const {
  return current().kind == TokenKind::kName && current().text == text;
}

bool ExpressionParser::skip_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  ++at_;
  return true;
}

bool ExpressionParser::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  ++at_;
  return true;
}

tl::unexpected<Error> ExpressionParser::expected(std::string_view what) const {
  return error_at(current().line, ErrorCode::kBadInput, "expected {}, found {}", what,
                  describe(current()));
}

tl::unexpected<Error> ExpressionParser::too_deep() const {
  return error_at(current().line, ErrorCode::kOutOfCapacity, "nested deeper than {}",
                  kMaxParseDepth);
}

Status ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) return expected(fmt::format("'{}'", text));
  return {};
}

Result<std::string> ExpressionParser::expect_name() {
  if (current().kind != TokenKind::kName) return expected("a name");
  return next().text;
}

// One expression, or several with commas between them: a tuple.
Result<ExpressionPtr> ExpressionParser::parse_tuple(bool with_conditional) {
  auto tuple = make(Kind::kTuple, current().line);
  bool is_tuple = false;
  while (true) {
    if (is_tuple && ends_tuple()) break;
    TG_ASSIGN(ExpressionPtr item, with_conditional ? parse_expression() : parse_or());
    tuple->children.push_back(std::move(item));
    if (!skip_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) return std::move(tuple->children[0]);
  return finish(std::move(tuple));
}
bool ExpressionParser::ends_tuple() const {
  return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
         is_operator(")");
}

// a if b else c
Result<ExpressionPtr> ExpressionParser::parse_expression() {
  const Nest nest(*this);
  if (nest.too_deep()) return too_deep();
  const bool had_unknown = unknown_.has_value();
  TG_ASSIGN(ExpressionPtr value, parse_or());
  while (is_name("if")) {
    if (!had_unknown) unknown_.reset();  // what has just been read is conditional
    auto node = make(Kind::kConditional, next().line);
    ++conditions_;
    TG_ASSIGN(ExpressionPtr condition, parse_or());
    ExpressionPtr otherwise;
    if (skip_name("else")) {
      TG_ASSIGN(otherwise, parse_expression());
    }
    --conditions_;
    node->children.push_back(std::move(condition));
    node->children.push_back(std::move(value));
    node->children.push_back(std::move(otherwise));
    TG_ASSIGN(value, finish(std::move(node)));
  }
  return value;
}

Result<ExpressionPtr> ExpressionParser::parse_or() {
  TG_ASSIGN(ExpressionPtr left, parse_and());
  while (is_name("or")) {
    const int line = next().line;
    TG_ASSIGN(ExpressionPtr right, parse_and());
    TG_ASSIGN(left, two(Kind::kOr, line, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExpressionPtr> ExpressionParser::parse_and() {
  TG_ASSIGN(ExpressionPtr left, parse_not());
  while (is_name("and")) {
    const int line = next().line;
    TG_ASSIGN(ExpressionPtr right, parse_not());
    TG_ASSIGN(left, two(Kind::kAnd, line, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExpressionPtr> ExpressionParser::parse_not() {
  if (!is_name("not")) return parse_comparison();
  const Nest nest(*this);
  if (nest.too_deep()) return too_deep();
  auto node = make(Kind::kNot, next().line);
  TG_ASSIGN(ExpressionPtr operand, parse_not());
  node->children.push_back(std::move(operand));
  return finish(std::move(node));
}

// The comparison operator here, read; empty when there is none.
std::string ExpressionParser::comparison_operator() {
  for (const std::string_view op : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (skip_operator(op)) return std::string(op);
  }
  if (skip_name("in")) return "in";
  if (is_name("not") && tokens_[at_ + 1].kind == TokenKind::kName &&
      tokens_[at_ + 1].text == "in") {
    at_ += 2;
    return "not in";
  }
  return {};
}

Result<ExpressionPtr> ExpressionParser::parse_comparison() {
  TG_ASSIGN(ExpressionPtr first, parse_binary(1));
  auto node = make(Kind::kCompare, first->line);
  for (std::string op = comparison_operator(); !op.empty(); op = comparison_operator()) {
    if (node->operators.empty()) node->children.push_back(std::move(first));
    node->operators.push_back(std::move(op));
    TG_ASSIGN(ExpressionPtr operand, parse_binary(1));
    node->children.push_back(std::move(operand));
  }
  if (node->operators.empty()) return first;
  return finish(std::move(node));
}

// Operators of at least this strength; all bind to the left, ** too (as Jinja's do).
Result<ExpressionPtr> ExpressionParser::parse_binary(int least) {
  TG_ASSIGN(ExpressionPtr left, parse_unary(true));
  while (strength(current()) >= least) {
    const Token op = next();
    TG_ASSIGN(ExpressionPtr right, parse_binary(strength(op) + 1));
    if (op.text == "~" && left->kind == Kind::kConcat) {
      // Not finish(): it would look at all the children again for each one more.
      left->depth = std::max(left->depth, right->depth + 1);
      left->children.push_back(std::move(right));
    } else {
      const Kind kind = op.text == "~" ? Kind::kConcat : Kind::kArithmetic;
      TG_ASSIGN(left, two(kind, op.line, std::move(left), std::move(right)));
      left->name = op.text;
    }
  }
  return left;
}

Result<ExpressionPtr> ExpressionParser::parse_unary(bool with_filters) {
  const Nest nest(*this);
  if (nest.too_deep()) return too_deep();
  ExpressionPtr node;
  if (is_operator("-") || is_operator("+")) {
    const Kind kind = is_operator("-") ? Kind::kNegate : Kind::kPlus;
    node = make(kind, next().line);
    TG_ASSIGN(ExpressionPtr operand, parse_unary(false));
    node->children.push_back(std::move(operand));
    TG_ASSIGN(node, finish(std::move(node)));
  } else {
    TG_ASSIGN(node, parse_primary());
  }
  TG_ASSIGN(node, parse_postfix(std::move(node)));
  if (!with_filters) return node;
  return parse_filters(std::move(node), false);
}

Result<ExpressionPtr> ExpressionParser::parse_primary() {
  const Token& token = current();
  auto node = make(Kind::kConstant, token.line);
  if (token.kind == TokenKind::kName) {
    const std::string& name = next().text;
    if (name == "true" || name == "True") {
      node->constant = Value(true);
    } else if (name == "false" || name == "False") {
      node->constant = Value(false);
    } else if (name == "none" || name == "None") {
      node->constant = Value::none();
    } else {
      node->kind = Kind::kName;
      node->name = name;
      if (macro_ != nullptr) {
        macro_->uses_varargs |= name == "varargs";
        macro_->uses_kwargs |= name == "kwargs";
        macro_->uses_caller |= name == "caller";
      }
    }
    return node;
  }
  if (token.kind == TokenKind::kString) {
    std::string text;
    while (current().kind == TokenKind::kString) text += next().text;
    node->constant = Value(std::move(text));
    return node;
  }
  if (token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat) {
    TG_ASSIGN(node->constant, number(next()));
    return node;
  }
  if (skip_operator("(")) {
    if (skip_operator(")")) {
      node->kind = Kind::kTuple;
      return node;
    }
    TG_ASSIGN(node, parse_tuple(true));
    TG_RETURN_IF_ERROR(expect_operator(")"));
    return node;
  }
  if (skip_operator("[")) {
    node->kind = Kind::kList;
    while (!is_operator("]")) {
      if (!node->children.empty()) TG_RETURN_IF_ERROR(expect_operator(","));
      if (is_operator("]")) break;
      TG_RETURN_IF_ERROR(add_child(*node));
    }
    ++at_;
    return finish(std::move(node));
  }
  if (skip_operator("{")) {
    node->kind = Kind::kDict;
    while (!is_operator("}")) {
      if (!node->children.empty()) TG_RETURN_IF_ERROR(expect_operator(","));
      if (is_operator("}")) break;
      TG_RETURN_IF_ERROR(add_child(*node));
      TG_RETURN_IF_ERROR(expect_operator(":"));
      TG_RETURN_IF_ERROR(add_child(*node));
    }
    ++at_;
    return finish(std::move(node));
  }
  return expected("an expression");
}

Status ExpressionParser::add_child(Expression& node) {
  TG_ASSIGN(ExpressionPtr child, parse_expression());
  node.children.push_back(std::move(child));
  return {};
}

// .name [item] [a:b:c] (arguments)
Result<ExpressionPtr> ExpressionParser::parse_postfix(ExpressionPtr node) {
  while (true) {
    const int line = current().line;
    if (skip_operator(".")) {
      auto outer = make(Kind::kAttribute, line);
      outer->children.push_back(std::move(node));
      if (current().kind == TokenKind::kInteger) {
        outer->kind = Kind::kItem;
        auto index = make(Kind::kConstant, line);
        TG_ASSIGN(index->constant, number(next()));
        outer->children.push_back(std::move(index));
      } else {
        TG_ASSIGN(outer->name, expect_name());
      }
      TG_ASSIGN(node, finish(std::move(outer)));
    } else if (skip_operator("[")) {
      TG_ASSIGN(node, parse_subscript(std::move(node), line));
    } else if (is_operator("(")) {
      TG_ASSIGN(node, parse_call(std::move(node)));
    } else {
      return node;
    }
  }
}

Result<ExpressionPtr> ExpressionParser::parse_subscript(ExpressionPtr node, int line) {
  auto outer = make(Kind::kItem, line);
  outer->children.push_back(std::move(node));
  ExpressionPtr part;
  if (!is_operator(":")) {
    TG_ASSIGN(part, parse_expression());
  }
  outer->children.push_back(std::move(part));
  while (skip_operator(":") && outer->children.size() < 4) {
    outer->kind = Kind::kSlice;
    ExpressionPtr bound;
    if (!is_operator(":") && !is_operator("]")) {
      TG_ASSIGN(bound, parse_expression());
    }
    outer->children.push_back(std::move(bound));
  }
  if (outer->kind == Kind::kSlice) outer->children.resize(4);
  TG_RETURN_IF_ERROR(expect_operator("]"));
  return finish(std::move(outer));
}

Result<ExpressionPtr> ExpressionParser::parse_call(ExpressionPtr callee) {
  auto call = make(Kind::kCall, current().line);
  call->children.push_back(std::move(callee));
  TG_RETURN_IF_ERROR(parse_arguments(*call));
  return finish(std::move(call));
}

// "(" a, b, name=c ")" into children and named.
Status ExpressionParser::parse_arguments(Expression& call) {
  TG_RETURN_IF_ERROR(expect_operator("("));
  bool first = true;
  while (!is_operator(")")) {
    if (!first) TG_RETURN_IF_ERROR(expect_operator(","));
    first = false;
    if (is_operator(")")) break;
    const auto has = [&call](std::string_view name) {
      return std::any_of(call.named.begin(), call.named.end(),
                         [name](const auto& one) { return one.first == name; });
    };
    if (has("**")) return expected("')' behind a '**' argument");
    if (is_operator("**") || (is_operator("*") && !has("*"))) {
      std::string stars = next().text;
      TG_ASSIGN(ExpressionPtr value, parse_expression());
      call.named.emplace_back(std::move(stars), std::move(value));
    } else if (current().kind == TokenKind::kName &&
               tokens_[at_ + 1].kind == TokenKind::kOperator && tokens_[at_ + 1].text == "=") {
      std::string name = next().text;
      ++at_;
      TG_ASSIGN(ExpressionPtr value, parse_expression());
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) {
        return error_at(current().line, ErrorCode::kBadInput,
                        "an argument without a name follows one with a name");
      }
      TG_RETURN_IF_ERROR(add_child(call));
    }
  }
  ++at_;
  return {};
}

// | filter, is test, and calls of what they give. With `named_first` the first filter's name
// stands here, without "|" (a filter block). A null node stands for the text of a block.
Result<ExpressionPtr> ExpressionParser::parse_filters(ExpressionPtr node, bool named_first) {
  while (true) {
    if (named_first || skip_operator("|")) {
      named_first = false;
      auto filter = make(Kind::kFilter, current().line);
      TG_ASSIGN(filter->name, parse_builtin_name());
      filter->builtin = find_filter(filter->name);
      if (filter->builtin == nullptr) note_unknown(*filter, "filter");
      filter->children.push_back(std::move(node));
      if (is_operator("(")) TG_RETURN_IF_ERROR(parse_arguments(*filter));
      TG_ASSIGN(node, finish(std::move(filter)));
    } else if (node != nullptr && is_name("is")) {
      ++at_;
      TG_ASSIGN(node, parse_test(std::move(node)));
    } else if (node != nullptr && is_operator("(")) {
      TG_ASSIGN(node, parse_call(std::move(node)));
    } else {
      return node;
    }
  }
}

// Jinja leaves unknown names in conditional parts to the rendering, so that templates can avoid
// them; elsewhere they are an error at once.
void ExpressionParser::note_unknown(const Expression& node, std::string_view what) {
  if (conditions_ > 0 || unknown_) return;
  unknown_ =
      error_at(node.line, ErrorCode::kUnsupported, "no {} named '{}'", what, node.name).value();
}

Result<std::string> ExpressionParser::parse_builtin_name() {
  TG_ASSIGN(std::string name, expect_name());
  while (skip_operator(".")) {
    TG_ASSIGN(const std::string part, expect_name());
    name += "." + part;
  }
  return name;
}

Result<ExpressionPtr> ExpressionParser::parse_test(ExpressionPtr subject) {
  const bool negated = skip_name("not");
  auto test = make(Kind::kTest, current().line);
  TG_ASSIGN(test->name, parse_builtin_name());
  test->builtin = find_test(test->name);
  if (test->builtin == nullptr) note_unknown(*test, "test");
  test->children.push_back(std::move(subject));
  const Token& token = current();
  if (is_operator("(")) {
    TG_RETURN_IF_ERROR(parse_arguments(*test));
  } else if (token.kind == TokenKind::kString || token.kind == TokenKind::kInteger ||
             token.kind == TokenKind::kFloat || is_operator("[") || is_operator("{") ||
             (token.kind == TokenKind::kName && token.text != "else" && token.text != "or" &&
              token.text != "and" && token.text != "if" && token.text != "is")) {
    // One argument may follow without parentheses: x is divisibleby 3
    TG_ASSIGN(ExpressionPtr argument, parse_primary());
    TG_ASSIGN(argument, parse_postfix(std::move(argument)));
    test->children.push_back(std::move(argument));
  }
  TG_ASSIGN(ExpressionPtr node, finish(std::move(test)));
  if (!negated) return node;
  auto inverted = make(Kind::kNot, node->line);
  inverted->children.push_back(std::move(node));
  return finish(std::move(inverted));
}

}  // namespace tg::jinja
