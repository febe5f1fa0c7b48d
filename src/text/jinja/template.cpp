#include "text/jinja/template.h"

#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace tg::jinja {

struct Template::Tree {
  Block block;
};

Result<Template> Template::parse(std::string_view source, std::string name) {
  auto block = jinja::parse(source);
  if (!block) return at_place(std::move(block).error(), name);
  return Template(std::make_shared<const Tree>(Tree{std::move(*block)}), std::move(name));
}

Result<std::string> Template::render(const Dict& variables, std::optional<std::tm> now,
                                     const RenderLimits& limits) const {
  Meter meter(limits);
  Interpreter interpreter(variables, now, meter);
  auto text = interpreter.render(tree_->block);
  if (!text) return at_place(std::move(text).error(), name_);
  return text;
}

}  // namespace tg::jinja
