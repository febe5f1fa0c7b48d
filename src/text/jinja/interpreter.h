// What: walks a parsed template and writes its text. One Interpreter per rendering.
// Who owns: all scopes and namespaces of the rendering; it borrows the tree, the variables and the
//   meter. Thread: that of the rendering.
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/objects.h"

namespace tg::jinja {

// The variables of one for round, macro call or block; a name that is not here is looked up in the
// parent.
struct Scope {
  Scope* parent = nullptr;
  std::map<std::string, Value, std::less<>> values;
  bool kept = false;  // a macro was made here or below, so it must live until the end
};

class Interpreter {
 public:
  // Without `now` the function strftime_now is not defined.
  Interpreter(const Dict& variables, std::optional<std::tm> now, Meter& meter)
      : variables_(variables), now_(now), meter_(meter) {}
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The whole text. Errors have the place "line N".
  Result<std::string> render(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // A scope that is the current one while this lives.
  class Inner {
   public:
    Inner(Interpreter& owner, Scope* parent);
    ~Inner();
    Inner(const Inner&) = delete;
    Inner& operator=(const Inner&) = delete;

   private:
    Interpreter& owner_;
    Scope* outer_;
    std::unique_ptr<Scope> scope_;
  };

  // interpreter.cpp: statements
  Result<Flow> run(const Block& block);
  Result<Flow> run_statement(const Statement& statement);
  Result<Flow> run_if(const Statement& statement);
  Result<Flow> run_for(const Statement& statement);
  Result<Flow> run_rounds(const Statement& statement, const Value& value, std::int64_t depth0);
  Result<Flow> run_call_block(const Statement& statement);
  Status run_set_block(const Statement& statement);
  // The text of a block in a scope of its own inside `parent`.
  Result<std::string> text_of_block(const Block& block, Scope* parent);
  Status write(std::string_view text);
  Status assign(const Target& target, const Value& value);
  Status assign_place(const Target::Place& place, const Value& value);
  Value make_macro(const MacroDefinition& definition);
  // Lets the current scope live until the end of the rendering.
  void keep_scope();
  // loop(value) inside a recursive for: the same loop over other items, as a text.
  Result<Value> call_loop(const Loop& loop, const Arguments& arguments);

  // evaluate.cpp: expressions
  Result<Value> evaluate(const Expression& expression);
  Result<Value> evaluate_node(const Expression& expression);
  Result<List> evaluate_children(const Expression& expression);
  Result<Value> evaluate_dict(const Expression& expression);
  Result<Value> evaluate_slice(const Expression& expression);
  Result<Value> evaluate_builtin(const Expression& expression);
  Result<Value> evaluate_comparison(const Expression& expression);
  Result<Value> evaluate_sign(const Expression& expression);
  // What a filter or method does with texts takes time that grows with them; false when the steps
  // are used up.
  bool pay_for_texts(const Value& subject, const Arguments& arguments);
  Result<Arguments> evaluate_arguments(const Expression& call);
  // The entries of a dict as named arguments.
  Status add_named(const Value& dict, Arguments& arguments);
  Value look_up(const std::string& name) const;
  Result<Value> call(const Value& callee, Arguments arguments);
  Result<Value> call_macro(const Macro& macro, Arguments arguments);
  Result<Value> call_function(std::string_view name, const Arguments& arguments);
  Result<DictPtr> make_dict(const Arguments& arguments);

  const Dict& variables_;
  std::optional<std::tm> now_;
  Meter& meter_;
  Scope* scope_ = nullptr;
  std::string* out_ = nullptr;
  const Value* block_text_ = nullptr;  // what a filter block's filters begin with
  std::vector<std::unique_ptr<Scope>> kept_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace tg::jinja
