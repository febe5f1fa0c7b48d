#include "cli/demo_prompts.h"

#include <filesystem>
#include <utility>

#include "cli/option_values.h"
#include "cli/prompts.h"

namespace tg {
namespace {

// Where a case's prompt file is: below the current directory, or beside the program or its
// installation.
std::string find_demo_file(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::exists(name, ignored)) return name;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  for (const char* up : {"..", "../share/llama-tg", "../../.."}) {
    const fs::path path = program.parent_path() / up / name;
    if (fs::exists(path, ignored)) return path.lexically_normal().string();
  }
  return name;
}

}  // namespace

Result<std::vector<DemoPrompt>> demo_prompts(const OpenedModel& model, const DemoPromptsAsk& ask) {
  std::vector<DemoPrompt> prompts;
  if (!ask.ids.empty()) {
    Result<std::vector<TokenId>> ids = parse_id_list(ask.ids);
    if (!ids) return at_place(std::move(ids).error(), "--prompt-ids");
    prompts.push_back({{}, std::move(*ids)});
    return prompts;
  }
  if (ask.file && ask.file->empty()) {
    return error(ErrorCode::kBadArgument, "--input-prompts: an empty name");
  }
  const std::string path = ask.file ? *ask.file : find_demo_file(ask.default_file);
  TG_ASSIGN(const std::vector<PromptEntry> file, read_prompt_file(path));
  const auto users = static_cast<std::size_t>(ask.users);
  if (ask.one_or_each && file.size() != 1 && file.size() < users) {
    return error(ErrorCode::kBadArgument,
                 "{}: {} prompts for {} users: need one for all or one for each (--batch-size)",
                 path, file.size(), users);
  }
  const std::size_t count =
      entries_needed(users, static_cast<std::size_t>(ask.repeats), file.size());
  TG_ASSIGN(std::vector<std::string> texts,
            load_prompts(path, file, count, ask.instruct, ContextOptions{}));
  for (std::string& text : texts) {
    Result<std::vector<TokenId>> ids = encode_prompt(model, text, ask.instruct);
    if (!ids) {
      return at_place(std::move(ids).error(),
                      fmt::format("{}: entry {}", path, prompts.size() + 1));
    }
    prompts.push_back({std::move(text), std::move(*ids)});
  }
  return prompts;
}

}  // namespace tg
