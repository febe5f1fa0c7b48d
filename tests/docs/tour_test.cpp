// docs/tour.md names functions as `file.cpp` and `function()`; all of them must exist.
#include <gtest/gtest.h>

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

TEST(Tour, EveryFunctionExists) {
  const std::string tour = read(fs::path(TG_SOURCE_DIR) / "docs/tour.md");
  // `name()`, `Class::name()`
  const std::set<std::string> functions = matches(tour, R"(`((?:\w+::)?\w+)\(\)`)");
  EXPECT_GT(functions.size(), 25U);
  std::string all;
  for (const auto& [path, text] : sources()) {
    if (path.starts_with("src/")) all += text;
  }
  for (const std::string& function : functions) {
    const std::size_t colon = function.find("::");
    const std::string name = colon == std::string::npos ? function : function.substr(colon + 2);
    // A definition or declaration: the name, an opening bracket, and in front of it a type or
    // "Class::".
    EXPECT_TRUE(std::regex_search(all, std::regex("[\\w>&*:] ?\\b" + name + "\\(")))
        << "docs/tour.md names " << function << "()";
    if (colon == std::string::npos) continue;
    const std::string type = function.substr(0, colon);
    EXPECT_TRUE(std::regex_search(all, std::regex("(class|struct) " + type + "\\b")))
        << "docs/tour.md names " << type;
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
