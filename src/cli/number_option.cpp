#include "cli/number_option.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <utility>

namespace tg {
namespace {

// The number that is the whole of the text, or nothing.
template <typename T>
std::optional<T> parse_whole_text(const std::string& text) {
  T value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void refuse(const std::string& names, const std::string& text,
                         const std::string& need) {
  throw CLI::ValidationError(names.substr(0, names.find(',')),
                             fmt::format("'{}': need {}", text, need));
}

CLI::Option* add_parsed(CLI::App& app, const std::string& names, const std::string& help,
                        const std::string& type, const std::string& shown_default,
                        const std::function<void(const std::string&)>& parse) {
  CLI::Option* option = app.add_option_function<std::string>(names, parse, help)->type_name(type);
  if (!shown_default.empty()) option->default_str(shown_default);
  return option;
}

}  // namespace

CLI::Option* add_whole_number(CLI::App& app, const std::string& names, const std::string& help,
                              std::int64_t least, std::int64_t most,
                              const std::string& shown_default,
                              std::function<void(std::int64_t)> set) {
  return add_parsed(app, names, help, "N", shown_default,
                    [names, least, most, set = std::move(set)](const std::string& text) {
                      const auto number = parse_whole_text<std::int64_t>(text);
                      if (!number || *number < least || *number > most) {
                        refuse(names, text, fmt::format("a whole number in {}..{}", least, most));
                      }
                      set(*number);
                    });
}

CLI::Option* add_whole_number(CLI::App& app, const std::string& names, const std::string& help,
                              std::int64_t least, std::int64_t most, std::int64_t& value) {
  return add_whole_number(app, names, help, least, most, std::to_string(value),
                          [&value](std::int64_t number) { value = number; });
}

CLI::Option* add_whole_number(CLI::App& app, const std::string& names, const std::string& help,
                              std::int64_t least, std::int64_t most,
                              std::optional<std::int64_t>& value) {
  return add_whole_number(app, names, help, least, most, "",
                          [&value](std::int64_t number) { value = number; });
}

CLI::Option* add_seed(CLI::App& app, const std::string& help, std::optional<std::uint64_t>& seed) {
  return add_parsed(app, "--seed", help, "N", "", [&seed](const std::string& text) {
    seed = parse_whole_text<std::uint64_t>(text);
    if (!seed) refuse("--seed", text, "a whole number in 0..18446744073709551615");
  });
}

CLI::Option* add_fraction(CLI::App& app, const std::string& names, const std::string& help,
                          double& value) {
  return add_parsed(app, names, help, "X", fmt::format("{}", value),
                    [names, &value](const std::string& text) {
                      const auto number = parse_whole_text<double>(text);
                      if (!number || !std::isfinite(*number)) refuse(names, text, "a number");
                      value = *number;
                    });
}

CLI::Option* add_fraction(CLI::App& app, const std::string& names, const std::string& help,
                          double least, double most, double& value) {
  return add_parsed(app, names, help, "X", fmt::format("{}", value),
                    [names, least, most, &value](const std::string& text) {
                      const auto number = parse_whole_text<double>(text);
                      if (!number || !(least <= *number && *number <= most)) {
                        refuse(names, text, fmt::format("a number in {}..{}", least, most));
                      }
                      value = *number;
                    });
}

CLI::Option* add_switch(CLI::App& app, const std::string& names, const std::string& help,
                        int& value) {
  return add_parsed(app, names, help, "0|1", std::to_string(value),
                    [names, &value](const std::string& text) {
                      if (text != "0" && text != "1") refuse(names, text, "0 or 1");
                      value = text == "1" ? 1 : 0;
                    });
}

}  // namespace tg
