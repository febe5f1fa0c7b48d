#include "text/jinja/parser.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "text/jinja/builtins.h"
#include "text/jinja/lexer.h"

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
      return "'" + token.text.substr(0, 40) + "'";
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

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Block> run() {
    TG_ASSIGN(Block block, parse_block({}));
    if (unknown_) return tl::unexpected<Error>(std::move(*unknown_));
    return block;
  }

 private:
  // Counts how deep the parser is while one of its functions runs.
  struct Nest {
    explicit Nest(Parser& owner) : parser(owner) { ++parser.depth_; }
    ~Nest() { --parser.depth_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;
    bool too_deep() const { return parser.depth_ > kMaxParseDepth; }
    Parser& parser;
  };

  const Token& current() const { return tokens_[at_]; }
  const Token& next() { return tokens_[current().kind == TokenKind::kEnd ? at_ : at_++]; }
  bool is_operator(std::string_view text) const {
    return current().kind == TokenKind::kOperator && current().text == text;
  }
  bool is_name(std::string_view text) const {
    return current().kind == TokenKind::kName && current().text == text;
  }
  bool skip_operator(std::string_view text) {
    if (!is_operator(text)) return false;
    ++at_;
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    ++at_;
    return true;
  }

  tl::unexpected<Error> expected(std::string_view what) const {
    return error_at(current().line, ErrorCode::kBadInput, "expected {}, found {}", what,
                    describe(current()));
  }
  tl::unexpected<Error> too_deep() const {
    return error_at(current().line, ErrorCode::kOutOfCapacity, "nested deeper than {}",
                    kMaxParseDepth);
  }
  Status expect_operator(std::string_view text) {
    if (!skip_operator(text)) return expected(fmt::format("'{}'", text));
    return {};
  }
  Status expect_block_end() {
    if (current().kind != TokenKind::kBlockEnd) return expected("'%}'");
    ++at_;
    return {};
  }
  Result<std::string> expect_name() {
    if (current().kind != TokenKind::kName) return expected("a name");
    return next().text;
  }

  // Takes the depths of the children over. Chains such as a + b + c + ... grow without recursion of
  // the parser, so every node with children passes here.
  Result<ExpressionPtr> finish(ExpressionPtr node) const {
    for (const ExpressionPtr& child : node->children) {
      if (child) node->depth = std::max(node->depth, child->depth + 1);
    }
    for (const auto& [name, child] : node->named) {
      node->depth = std::max(node->depth, child->depth + 1);
    }
    if (node->depth > kMaxParseDepth) return too_deep();
    return node;
  }

  // ---- statements ----

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
    TG_ASSIGN(statement.target, parse_target("in"));
    if (!skip_name("in")) return expected("'in'");
    TG_ASSIGN(statement.value, parse_tuple(false));
    if (skip_name("if")) {
      TG_ASSIGN(statement.condition, parse_expression());
    }
    if (is_name("recursive")) {
      return error_at(current().line, ErrorCode::kUnsupported, "'recursive' is not supported");
    }
    TG_RETURN_IF_ERROR(expect_block_end());
    ++loops_;
    TG_ASSIGN(statement.body, parse_block({"else", "endfor"}));
    --loops_;
    if (skip_name("else")) {
      TG_ASSIGN(statement.otherwise, parse_body("endfor"));
      return {};
    }
    ++at_;  // endfor
    return expect_block_end();
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
    if (statement.value->kind != Kind::kCall) {
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

  // ---- expressions ----

  // One expression, or several with commas between them: a tuple.
  Result<ExpressionPtr> parse_tuple(bool with_conditional) {
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
  bool ends_tuple() const {
    return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
           is_operator(")");
  }

  // a if b else c
  Result<ExpressionPtr> parse_expression() {
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

  Result<ExpressionPtr> two(Kind kind, int line, ExpressionPtr left, ExpressionPtr right) {
    auto node = make(kind, line);
    node->children.push_back(std::move(left));
    node->children.push_back(std::move(right));
    return finish(std::move(node));
  }

  Result<ExpressionPtr> parse_or() {
    TG_ASSIGN(ExpressionPtr left, parse_and());
    while (is_name("or")) {
      const int line = next().line;
      TG_ASSIGN(ExpressionPtr right, parse_and());
      TG_ASSIGN(left, two(Kind::kOr, line, std::move(left), std::move(right)));
    }
    return left;
  }

  Result<ExpressionPtr> parse_and() {
    TG_ASSIGN(ExpressionPtr left, parse_not());
    while (is_name("and")) {
      const int line = next().line;
      TG_ASSIGN(ExpressionPtr right, parse_not());
      TG_ASSIGN(left, two(Kind::kAnd, line, std::move(left), std::move(right)));
    }
    return left;
  }

  Result<ExpressionPtr> parse_not() {
    if (!is_name("not")) return parse_comparison();
    const Nest nest(*this);
    if (nest.too_deep()) return too_deep();
    auto node = make(Kind::kNot, next().line);
    TG_ASSIGN(ExpressionPtr operand, parse_not());
    node->children.push_back(std::move(operand));
    return finish(std::move(node));
  }

  // The comparison operator here, read; empty when there is none.
  std::string comparison_operator() {
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

  Result<ExpressionPtr> parse_comparison() {
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
  Result<ExpressionPtr> parse_binary(int least) {
    TG_ASSIGN(ExpressionPtr left, parse_unary(true));
    while (strength(current()) >= least) {
      const Token op = next();
      TG_ASSIGN(ExpressionPtr right, parse_binary(strength(op) + 1));
      if (op.text == "~" && left->kind == Kind::kConcat) {
        left->children.push_back(std::move(right));
        TG_ASSIGN(left, finish(std::move(left)));
      } else {
        const Kind kind = op.text == "~" ? Kind::kConcat : Kind::kArithmetic;
        TG_ASSIGN(left, two(kind, op.line, std::move(left), std::move(right)));
        left->name = op.text;
      }
    }
    return left;
  }

  Result<ExpressionPtr> parse_unary(bool with_filters) {
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

  Result<ExpressionPtr> parse_primary() {
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

  Status add_child(Expression& node) {
    TG_ASSIGN(ExpressionPtr child, parse_expression());
    node.children.push_back(std::move(child));
    return {};
  }

  static Result<Value> number(const Token& token) {
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
    return error_at(token.line, ErrorCode::kBadInput, "'{}' is not a number of 64 bits",
                    text.substr(0, 40));
  }

  // .name [item] [a:b:c] (arguments)
  Result<ExpressionPtr> parse_postfix(ExpressionPtr node) {
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

  Result<ExpressionPtr> parse_subscript(ExpressionPtr node, int line) {
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

  Result<ExpressionPtr> parse_call(ExpressionPtr callee) {
    auto call = make(Kind::kCall, current().line);
    call->children.push_back(std::move(callee));
    TG_RETURN_IF_ERROR(parse_arguments(*call));
    return finish(std::move(call));
  }

  // "(" a, b, name=c ")" into children and named.
  Status parse_arguments(Expression& call) {
    TG_RETURN_IF_ERROR(expect_operator("("));
    bool first = true;
    while (!is_operator(")")) {
      if (!first) TG_RETURN_IF_ERROR(expect_operator(","));
      first = false;
      if (is_operator(")")) break;
      if (is_operator("*") || is_operator("**")) {
        return error_at(current().line, ErrorCode::kUnsupported,
                        "'{}' in the arguments of a call is not supported", current().text);
      }
      if (current().kind == TokenKind::kName && tokens_[at_ + 1].kind == TokenKind::kOperator &&
          tokens_[at_ + 1].text == "=") {
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
  Result<ExpressionPtr> parse_filters(ExpressionPtr node, bool named_first) {
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
  void note_unknown(const Expression& node, std::string_view what) {
    if (conditions_ > 0 || unknown_) return;
    unknown_ =
        error_at(node.line, ErrorCode::kUnsupported, "no {} named '{}'", what, node.name).value();
  }

  Result<std::string> parse_builtin_name() {
    TG_ASSIGN(std::string name, expect_name());
    while (skip_operator(".")) {
      TG_ASSIGN(const std::string part, expect_name());
      name += "." + part;
    }
    return name;
  }

  Result<ExpressionPtr> parse_test(ExpressionPtr subject) {
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

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;       // for loops that break would leave
  int conditions_ = 0;  // conditional parts around the current token
  MacroDefinition* macro_ = nullptr;
  std::optional<Error> unknown_;  // the first unknown filter or test outside of conditional parts
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
