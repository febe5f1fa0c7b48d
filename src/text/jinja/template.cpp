#include "text/jinja/template.h"

#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/utf8.h"

namespace tg::jinja {

namespace {

// An error quotes names and texts of the template, which may be long and have any characters; it is
// one line of at most a few hundred characters to the one who reads it.
tl::unexpected<Error> presentable(Error failure, std::string_view name) {
  constexpr std::size_t kMostBytes = 500;
  std::string& message = failure.message;
  if (message.size() > kMostBytes) {
    message.resize(kMostBytes);
    message.resize(valid_utf8_prefix(message));
    message += "...";
  }
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return at_place(std::move(failure), name);
}

}  // namespace

struct Template::Tree {
  Block block;
};

Result<Template> Template::parse(std::string_view source, std::string name) {
  auto block = jinja::parse(source);
  if (!block) return presentable(std::move(block).error(), name);
  return Template(std::make_shared<const Tree>(Tree{std::move(*block)}), std::move(name));
}

Result<std::string> Template::render(const Dict& variables, std::optional<std::tm> now,
                                     const RenderLimits& limits) const {
  Meter meter(limits);
  Interpreter interpreter(variables, now, meter);
  auto text = interpreter.render(tree_->block);
  if (!text) return presentable(std::move(text).error(), name_);
  return text;
}

}  // namespace tg::jinja
