#include "text/jinja/interpreter.h"

#include <utility>

#include "text/jinja/lexer.h"
#include "text/jinja/value_text.h"

namespace tg::jinja {

Interpreter::Inner::Inner(Interpreter& owner, Scope* parent)
    : owner_(owner), outer_(owner.scope_), scope_(std::make_unique<Scope>()) {
  scope_->parent = parent;
  owner_.scope_ = scope_.get();
}

Interpreter::Inner::~Inner() {
  owner_.scope_ = outer_;
  if (scope_->kept) owner_.kept_scopes_.push_back(std::move(scope_));
}

Interpreter::~Interpreter() {
  // Namespaces may hold each other in circles and in chains of any length: emptied one by one,
  // while all are still held here, nothing recurses and nothing is left over.
  for (const auto& space : namespaces_) space->attributes.clear();
}

Result<std::string> Interpreter::render(const Block& block) {
  std::string text;
  out_ = &text;
  const Inner scope(*this, nullptr);
  TG_ASSIGN([[maybe_unused]] const Flow flow, run(block));
  if (!meter_.ok()) return meter_.exhausted();
  return text;
}

Result<Interpreter::Flow> Interpreter::run(const Block& block) {
  const Meter::Level level(meter_);
  if (level.too_deep()) return level.error();
  for (const auto& statement : block) {
    auto flow = meter_.spend(1) ? run_statement(*statement) : meter_.exhausted();
    if (!flow) {
      Error failure = std::move(flow).error();
      if (failure.place.empty()) failure.place = fmt::format("line {}", statement->line);
      return tl::unexpected<Error>(std::move(failure));
    }
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::run_statement(const Statement& statement) {
  using S = Statement::Kind;
  switch (statement.kind) {
    case S::kText:
      TG_RETURN_IF_ERROR(write(statement.text));
      return Flow::kNext;
    case S::kOutput: {
      TG_ASSIGN(const Value value, evaluate(*statement.value));
      if (value.is_string()) {
        TG_RETURN_IF_ERROR(write(value.string()));
      } else {
        TG_RETURN_IF_ERROR(write(text_of(value, meter_)));
      }
      return Flow::kNext;
    }
    case S::kIf:
      return run_if(statement);
    case S::kFor:
      return run_for(statement);
    case S::kSet: {
      TG_ASSIGN(const Value value, evaluate(*statement.value));
      TG_RETURN_IF_ERROR(assign(statement.target, value));
      return Flow::kNext;
    }
    case S::kSetBlock:
      TG_RETURN_IF_ERROR(run_set_block(statement));
      return Flow::kNext;
    case S::kFilter: {
      TG_ASSIGN(std::string text, text_of_block(statement.body, scope_));
      const Value subject(std::move(text));
      const Value* outer = std::exchange(block_text_, &subject);
      auto filtered = evaluate(*statement.filter);
      block_text_ = outer;
      if (!filtered) return tl::unexpected<Error>(std::move(filtered).error());
      TG_RETURN_IF_ERROR(write(text_of(*filtered, meter_)));
      return Flow::kNext;
    }
    case S::kWith: {
      // The values are those of the scope outside.
      List values;
      for (const auto& expression : statement.values) {
        TG_ASSIGN(Value value, evaluate(*expression));
        values.push_back(std::move(value));
      }
      const Inner inner(*this, scope_);
      for (std::size_t i = 0; i < values.size(); ++i) {
        scope_->values.insert_or_assign(statement.target.places[i].name, std::move(values[i]));
      }
      return run(statement.body);
    }
    case S::kMacro:
      scope_->values.insert_or_assign(statement.macro.name, make_macro(statement.macro));
      return Flow::kNext;
    case S::kCall:
      return run_call_block(statement);
    case S::kGeneration: {
      const Inner inner(*this, scope_);
      return run(statement.body);
    }
    case S::kBreak:
      return Flow::kBreak;
    case S::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Status Interpreter::write(std::string_view text) {
  if (text.size() > meter_.limits().output_bytes - out_->size()) {
    meter_.spend_bytes(meter_.limits().output_bytes + 1);
  }
  if (!meter_.spend_bytes(text.size())) return meter_.exhausted();
  out_->append(text);
  return {};
}

Result<Interpreter::Flow> Interpreter::run_if(const Statement& statement) {
  for (const Statement::Branch& branch : statement.branches) {
    if (branch.condition) {
      TG_ASSIGN(const Value condition, evaluate(*branch.condition));
      if (!is_true(condition)) continue;
    }
    return run(branch.body);
  }
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::run_for(const Statement& statement) {
  TG_ASSIGN(const Value value, evaluate(*statement.value));
  return run_rounds(statement, value, 0);
}

Result<Interpreter::Flow> Interpreter::run_rounds(const Statement& statement, const Value& value,
                                                  std::int64_t depth0) {
  TG_ASSIGN(SequencePtr items, elements(value, meter_));
  if (statement.condition) {
    // Jinja asks the filter as the loop goes; here all items are asked before the first round.
    List chosen;
    for (const Value& item : items->items) {
      const Inner inner(*this, scope_);
      TG_RETURN_IF_ERROR(assign(statement.target, item));
      TG_ASSIGN(const Value condition, evaluate(*statement.condition));
      if (is_true(condition)) chosen.push_back(item);
    }
    TG_ASSIGN(const Value list, make_list(std::move(chosen)));
    items = list.sequence_pointer();
  }
  if (items->depth + 1 > kMaxValueDepth) {
    return error(ErrorCode::kOutOfCapacity, "values nested deeper than {}", kMaxValueDepth);
  }
  const auto loop = std::make_shared<Loop>(items);
  loop->depth0 = depth0;
  if (statement.is_recursive) {
    keep_scope();
    loop->scope = scope_;
    loop->statement = &statement;
  }
  // Jinja's "else" asks whether any round came to its end, so one that "continue" or "break" cut
  // short does not count.
  bool any_whole_round = false;
  for (std::size_t i = 0; i < items->items.size(); ++i) {
    if (!meter_.spend(1)) return meter_.exhausted();
    loop->index0 = i;
    const Inner inner(*this, scope_);
    scope_->values.insert_or_assign("loop", Value(ObjectPtr(loop)));
    TG_RETURN_IF_ERROR(assign(statement.target, items->items[i]));
    TG_ASSIGN(const Flow flow, run(statement.body));
    if (flow == Flow::kBreak) break;
    any_whole_round = any_whole_round || flow == Flow::kNext;
  }
  if (any_whole_round) return Flow::kNext;
  const Inner inner(*this, scope_);
  return run(statement.otherwise);
}

Result<std::string> Interpreter::text_of_block(const Block& block, Scope* parent) {
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  const Inner inner(*this, parent);
  auto flow = run(block);
  out_ = outer;
  if (!flow) return tl::unexpected<Error>(std::move(flow).error());
  return text;
}

Status Interpreter::run_set_block(const Statement& statement) {
  TG_ASSIGN(std::string text, text_of_block(statement.body, scope_));
  const Value plain(std::move(text));
  if (!statement.filter) return assign(statement.target, plain);
  const Value* outer = std::exchange(block_text_, &plain);
  auto filtered = evaluate(*statement.filter);
  block_text_ = outer;
  if (!filtered) return tl::unexpected<Error>(std::move(filtered).error());
  return assign(statement.target, *filtered);
}

Result<Value> Interpreter::call_loop(const Loop& loop, const Arguments& arguments) {
  if (loop.statement == nullptr) {
    return error(ErrorCode::kBadInput, "only the loop of a recursive for can be called");
  }
  TG_ASSIGN(const Bound bound, Bound::make(arguments, {"iterable"}));
  if (bound.get(0) == nullptr) return error(ErrorCode::kBadInput, "loop() needs an argument");
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  const Inner inner(*this, loop.scope);
  auto flow = run_rounds(*loop.statement, *bound.get(0), loop.depth0 + 1);
  out_ = outer;
  if (!flow) return tl::unexpected<Error>(std::move(flow).error());
  return Value(std::move(text));
}

void Interpreter::keep_scope() {
  for (Scope* scope = scope_; scope != nullptr && !scope->kept; scope = scope->parent) {
    scope->kept = true;
    meter_.spend(10);  // its memory stays until the end
  }
}

Value Interpreter::make_macro(const MacroDefinition& definition) {
  keep_scope();
  return Value(ObjectPtr(std::make_shared<Macro>(&definition, scope_)));
}

Result<Interpreter::Flow> Interpreter::run_call_block(const Statement& statement) {
  const Expression& call_expression = *statement.value;
  TG_ASSIGN(const Value callee, evaluate(*call_expression.children[0]));
  TG_ASSIGN(Arguments arguments, evaluate_arguments(call_expression));
  arguments.named.emplace_back("caller", make_macro(statement.macro));
  TG_ASSIGN(const Value result, call(callee, std::move(arguments)));
  TG_RETURN_IF_ERROR(write(text_of(result, meter_)));
  return Flow::kNext;
}

Status Interpreter::assign(const Target& target, const Value& value) {
  if (!target.is_tuple) return assign_place(target.places[0], value);
  TG_ASSIGN(const SequencePtr parts, elements(value, meter_));
  if (value.is_undefined() || parts->items.size() != target.places.size()) {
    return error(ErrorCode::kBadInput, "{} values to unpack, {} names to store them in",
                 parts->items.size(), target.places.size());
  }
  for (std::size_t i = 0; i < target.places.size(); ++i) {
    TG_RETURN_IF_ERROR(assign_place(target.places[i], parts->items[i]));
  }
  return {};
}

Status Interpreter::assign_place(const Target::Place& place, const Value& value) {
  if (place.attribute.empty()) {
    scope_->values.insert_or_assign(place.name, value);
    return {};
  }
  const Value owner = look_up(place.name);
  auto* space = object_as<Namespace>(owner, Object::Type::kNamespace);
  if (space == nullptr) {
    return error(ErrorCode::kBadInput, "can not assign to '{}.{}': '{}' is no namespace",
                 place.name, place.attribute, place.name);
  }
  if (place.attribute.starts_with('_')) {
    return error(ErrorCode::kBadInput, "a namespace can not store '{}'", place.attribute);
  }
  return space->attributes.set_text(place.attribute, value);
}

}  // namespace tg::jinja
