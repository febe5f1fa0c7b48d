// What: a parsed template: statements and expressions as plain trees of bounded depth.
// Who owns: the Template; nodes own their children. Immutable after parsing. Thread: any.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace tg::jinja {

struct Builtin;  // a filter or a test, see builtins.h

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kConstant,     // constant
    kName,         // name
    kList,         // children
    kTuple,        // children
    kDict,         // children: key, value, key, value, ...
    kAttribute,    // children[0] . name
    kItem,         // children[0] [ children[1] ]
    kSlice,        // children[0] [ children[1] : children[2] : children[3] ], absent ones null
    kCall,         // children[0] ( the other children, named ); "*" and "**" are names too
    kFilter,       // children[0] | name ( the other children, named )
    kTest,         // children[0] is name ( the other children, named )
    kNot,          // children[0]
    kNegate,       // children[0]
    kPlus,         // children[0]
    kArithmetic,   // children[0] name children[1], name one of + - * / // % **
    kConcat,       // children joined by ~
    kCompare,      // children[0] operators[0] children[1] operators[1] ...
    kAnd,          // children[0] and children[1]
    kOr,           // children[0] or children[1]
    kConditional,  // children[1] if children[0] else children[2] (null without else)
  };
  Kind kind = Kind::kConstant;
  int line = 0;
  int depth = 1;  // of the tree below, this node included
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;
  const Builtin* builtin = nullptr;  // kFilter, kTest; null: unknown, an error if it is reached
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

// What an assignment or a for loop stores to.
struct Target {
  // More than one, or is_tuple: the value is taken apart. A name with an attribute is a
  // namespace's.
  struct Place {
    std::string name;
    std::string attribute;
  };
  std::vector<Place> places;
  bool is_tuple = false;
};

// {% macro %}, and the body of a {% call %}.
struct MacroDefinition {
  std::string name;  // empty: caller()
  int line = 0;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  std::unique_ptr<Block> body;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

struct Statement {
  enum class Kind {
    kText,        // text
    kOutput,      // value
    kIf,          // branches: condition (null for else) and body
    kFor,         // target in value if condition: body, else otherwise; maybe is_recursive
    kSet,         // target = value
    kSetBlock,    // target = the text of body through filter (may be null)
    kFilter,      // the text of body through filter
    kWith,        // names of target = values: body
    kMacro,       // macro
    kCall,        // value (a call) with macro as its caller()
    kGeneration,  // body, as it is (marks what the assistant said)
    kBreak,
    kContinue,
  };
  struct Branch {
    ExpressionPtr condition;
    Block body;
  };
  Kind kind = Kind::kText;
  int line = 0;
  std::string text;
  ExpressionPtr value;
  ExpressionPtr condition;
  bool is_recursive = false;
  ExpressionPtr filter;  // its innermost subject is null: the text of the body
  std::vector<ExpressionPtr> values;
  Target target;
  std::vector<Branch> branches;
  Block body;
  Block otherwise;
  MacroDefinition macro;
};

}  // namespace tg::jinja
