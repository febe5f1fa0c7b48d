// What: a Jinja template as Hugging Face renders chat templates: sandboxed (nothing outside of the
//   given variables can be reached or changed), bounded in steps, output and depth, and without
//   any exception: whatever the source and the variables, the result is a text or an Error.
//   docs: which constructs exist is listed at parse().
// Who owns: the caller. Thread: any; a Template is immutable, renderings may run at the same time.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/limits.h"
#include "text/jinja/value.h"

namespace tg::jinja {

class Template {
 public:
  // Tags: if, for (with filter, else and recursion), set (also as a block and on namespaces),
  // macro, call, filter, with, raw, generation, break, continue. Not: import, include, extends,
  // block, do, autoescape, trans. `name` is the place of errors: "NAME: line N: message".
  // kBadInput, kUnsupported or kOutOfCapacity, see parser.h.
  static Result<Template> parse(std::string_view source, std::string name);

  // The text with these variables. strftime_now is defined only with `now`.
  // kBadInput: an error of the template (raise_exception among them); kUnsupported: a filter, test
  // or format that we do not know; kOutOfCapacity: a limit was met.
  Result<std::string> render(const Dict& variables, std::optional<std::tm> now,
                             const RenderLimits& limits = {}) const;

  const std::string& name() const { return name_; }

 private:
  struct Tree;
  Template(std::shared_ptr<const Tree> tree, std::string name)
      : tree_(std::move(tree)), name_(std::move(name)) {}

  std::shared_ptr<const Tree> tree_;
  std::string name_;
};

}  // namespace tg::jinja
