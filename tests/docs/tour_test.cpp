// docs/tour.md names functions as `file.cpp` and `function()`; all of them must exist.
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace tg {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) {
    found.insert((*it)[1]);
  }
  return found;
}

// The text of the project's sources by path below the root.
std::map<std::string, std::string> sources() {
  std::map<std::string, std::string> all;
  const fs::path root = TG_SOURCE_DIR;
  for (const char* folder : {"src", "tests", "bench", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file()) continue;
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp" && extension != ".sh" && extension != ".py") {
        continue;
      }
      all[fs::relative(entry.path(), root)] = read(entry.path());
    }
  }
  return all;
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// What sources define or declare. Read once, character by character: a regular expression for each
// name took ten seconds.
struct Names {
  std::set<std::string> functions;
  std::set<std::string> types;  // behind "class" or "struct"
};

void add_names(const std::string& text, Names& names) {
  std::string before;  // the word before this one, with nothing but a blank between
  for (std::size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      ++at;
      continue;
    }
    const std::size_t begin = at;
    while (at < text.size() && is_word(text[at])) ++at;
    const std::string word = text.substr(begin, at - begin);
    // A function has an opening bracket behind it, and in front of it a type or "Class::".
    const bool blank = begin > 0 && text[begin - 1] == ' ';
    const std::size_t front = begin - (blank ? 1 : 0);
    const char last = front > 0 ? text[front - 1] : '\n';
    const bool has_front = (blank && is_word(last)) || std::string(">&*:").find(last) < 4;
    if (has_front && at < text.size() && text[at] == '(') names.functions.insert(word);
    if (before == "class" || before == "struct") names.types.insert(word);
    before = at < text.size() && text[at] == ' ' ? word : "";
  }
}

TEST(Tour, EveryFunctionExists) {
  const std::string tour = read(fs::path(TG_SOURCE_DIR) / "docs/tour.md");
  // `name()`, `Class::name()`
  const std::set<std::string> functions = matches(tour, R"(`((?:\w+::)?\w+)\(\)`)");
  EXPECT_GT(functions.size(), 25U);
  Names names;
  for (const auto& [path, text] : sources()) {
    if (path.starts_with("src/")) add_names(text, names);
  }
  EXPECT_TRUE(names.functions.contains("run_command_line") && names.types.contains("Engine"));
  EXPECT_FALSE(names.functions.contains("not_a_function") || names.types.contains("not_a_type"));
  for (const std::string& function : functions) {
    const std::size_t colon = function.find("::");
    const std::string name = colon == std::string::npos ? function : function.substr(colon + 2);
    EXPECT_TRUE(names.functions.contains(name)) << "docs/tour.md names " << function << "()";
    if (colon == std::string::npos) continue;
    const std::string type = function.substr(0, colon);
    EXPECT_TRUE(names.types.contains(type)) << "docs/tour.md names " << type;
  }
}

TEST(Tour, EveryFileExists) {
  for (const char* document : {"docs/tour.md", "README.md", "docs/measuring.md"}) {
    const std::string text = read(fs::path(TG_SOURCE_DIR) / document);
    ASSERT_FALSE(text.empty()) << document;
    for (const std::string& path :
         matches(text, R"(`((?:src|tests|bench|tools|docs|demo)/[\w/.-]+)`)")) {
      EXPECT_TRUE(fs::exists(fs::path(TG_SOURCE_DIR) / path)) << document << " names " << path;
    }
  }
}

}  // namespace
}  // namespace tg
