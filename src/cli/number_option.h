// What: number options as people write them: whole decimal numbers or decimal fractions, checked
//   against a range, refused by name. (CLI11's own take an empty value, octal and a negative seed.)
// Who owns: the option writes to the caller's variable, which must outlive the parse.
// Thread: the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tg {

// `names` as CLI11's; `shown_default` is for --help, empty for none.
CLI::Option* add_whole_number(CLI::App& app, const std::string& names, const std::string& help,
                              std::int64_t least, std::int64_t most,
                              const std::string& shown_default,
                              std::function<void(std::int64_t)> set);
CLI::Option* add_seed(CLI::App& app, const std::string& help, std::optional<std::uint64_t>& seed);
CLI::Option* add_fraction(CLI::App& app, const std::string& names, const std::string& help,
                          double& value);
// In least..most.
CLI::Option* add_fraction(CLI::App& app, const std::string& names, const std::string& help,
                          double least, double most, double& value);
// 0 or 1.
CLI::Option* add_switch(CLI::App& app, const std::string& names, const std::string& help,
                        int& value);

// With the variable's value as the default.
CLI::Option* add_whole_number(CLI::App& app, const std::string& names, const std::string& help,
                              std::int64_t least, std::int64_t most, std::int64_t& value);
CLI::Option* add_whole_number(CLI::App& app, const std::string& names, const std::string& help,
                              std::int64_t least, std::int64_t most,
                              std::optional<std::int64_t>& value);

// More tokens, users or repeats than anything has.
inline constexpr std::int64_t kMostCount = 1'000'000'000;

}  // namespace tg
