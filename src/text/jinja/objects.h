// What: the values with identity or behaviour: namespace, loop, macro, bound method, built-in
//   function.
// Who owns: Values share them within one rendering. Only a namespace can be changed after it was
//   made, so only namespaces can come to hold themselves; the interpreter keeps a list of them and
//   empties them when the rendering ends.
// Thread: that of the rendering.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace tg::jinja {

class Object {
 public:
  enum class Type { kNamespace, kLoop, kMacro, kMethod, kFunction };
  explicit Object(Type type, int depth = 0) : type_(type), depth_(depth) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  Type type() const { return type_; }
  // As Value::depth(). A namespace counts as flat: what walks values stops at objects.
  int depth() const { return depth_; }

 private:
  Type type_;
  int depth_;
};

struct Namespace : Object {
  Namespace() : Object(Type::kNamespace) {}
  Dict attributes;
};

struct Scope;

// `loop` inside a for body.
struct Loop : Object {
  explicit Loop(SequencePtr all) : Object(Type::kLoop, all->depth + 1), items(std::move(all)) {}
  SequencePtr items;  // after the loop's filter
  std::size_t index0 = 0;
  std::int64_t depth0 = 0;  // loops of the same statement around it
  // Of a recursive for, which can be called; the interpreter keeps the scope until the end.
  const Statement* statement = nullptr;
  Scope* scope = nullptr;
};

struct Macro : Object {
  Macro(const MacroDefinition* code, Scope* around)
      : Object(Type::kMacro), definition(code), scope(around) {}
  const MacroDefinition* definition;
  Scope* scope;  // the interpreter keeps a scope in which a macro was made until the end
};

// A method of a str, list, dict or loop with the object it belongs to.
struct Method : Object {
  Method(Value object, std::string_view method)
      : Object(Type::kMethod, object.depth() + 1), self(std::move(object)), name(method) {}
  Value self;
  std::string name;
};

// A global function: range, dict, namespace, raise_exception, strftime_now.
struct Function : Object {
  explicit Function(std::string_view function) : Object(Type::kFunction), name(function) {}
  std::string name;
};

// The object behind value if it is of this type, else nullptr.
template <typename T>
T* object_as(const Value& value, Object::Type type) {
  if (!value.is_object() || value.object()->type() != type) return nullptr;
  return static_cast<T*>(value.object().get());
}

}  // namespace tg::jinja
