#include "cli/answer_file.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/performance.h"
#include "cli/write_file.h"

namespace tg {
namespace {

using Json = nlohmann::ordered_json;

// -inf (an id that was ruled out) has no JSON; vLLM's floor is taken for it.
double finite(float logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }

Json logprobs_json(const std::vector<SampledToken>& tokens) {
  Json list = Json::array();
  for (const SampledToken& token : tokens) {
    Json top = Json::array();
    for (const TokenLogprob& t : token.top) {
      top.push_back({{"id", t.token}, {"logprob", finite(t.logprob)}});
    }
    list.push_back({{"id", token.token}, {"logprob", finite(token.logprob)}, {"top", top}});
  }
  return list;
}

Json speculation_json(const SpeculationCounts& counts) {
  return {{"steps", counts.steps}, {"proposed", counts.proposed}, {"accepted", counts.accepted}};
}

Json user_json(const UserAnswer& user) {
  Json j;
  j["prompt"] = user.prompt;
  j["prompt_ids"] = user.prompt_ids;
  j["output_ids"] = user.output_ids;
  j["text"] = user.text;
  j["finish_reason"] = user.finish_reason;
  if (!user.error.empty()) j["error"] = user.error;
  j["ttft_s"] = user.ttft_s;
  j["token_times_s"] = user.token_times_s;
  j["sampling"] = {{"temperature", user.sampling.temperature},
                   {"top_k", user.sampling.top_k},
                   {"top_p", user.sampling.top_p},
                   {"min_p", user.sampling.min_p},
                   {"seed", user.sampling.seed},
                   {"repetition_penalty", user.sampling.repetition_penalty},
                   {"presence_penalty", user.sampling.presence_penalty},
                   {"frequency_penalty", user.sampling.frequency_penalty}};
  if (user.speculation.steps > 0) j["speculation"] = speculation_json(user.speculation);
  if (user.sampling.top_logprobs >= 0) j["logprobs"] = logprobs_json(user.logprobs);
  return j;
}

Json settings_json(const RunSummary& s) {
  return {{"command", s.command},
          {"model", s.model},
          {"kernels", s.kernels},
          {"compute_dtype", s.compute_dtype},
          {"kv_dtype", s.kv_dtype},
          {"weights", s.weights},
          {"threads", s.threads},
          {"mesh", s.mesh},
          {"ranks", s.ranks},
          {"batch_size", s.users},
          {"max_seq_len", s.max_seq_len},
          {"max_generated_tokens", s.max_generated_tokens},
          {"page_block_size", s.page_block_size},
          {"page_max_num_blocks", s.page_max_num_blocks},
          {"instruct", s.instruct},
          {"stop_at_eos", s.stop_at_eos},
          {"speculative", s.speculative}};
}

Status io_error(const std::string& path, const char* what) {
  return at_place(Error{ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(errno)), {}},
                  path);
}

}  // namespace

std::string answer_json(const RunSummary& summary,
                        std::span<const std::vector<UserAnswer>> batches) {
  Json file;
  file["settings"] = settings_json(summary);
  file["batches"] = Json::array();
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  SpeculationCounts speculation;
  for (const std::vector<UserAnswer>& batch : batches) {
    Json users = Json::array();
    for (const UserAnswer& user : batch) users.push_back(user_json(user));
    const Performance p = measure(batch);
    prompt_tokens += p.prompt_tokens;
    output_tokens += p.output_tokens;
    speculation += p.speculation;
    file["batches"].push_back({{"users", std::move(users)},
                               {"ttft_mean_s", p.ttft.mean},
                               {"ttft_p50_s", p.ttft.p50},
                               {"ttft_p95_s", p.ttft.p95},
                               {"time_per_token_mean_s", p.token_interval.mean},
                               {"time_per_token_p50_s", p.token_interval.p50},
                               {"time_per_token_p95_s", p.token_interval.p95},
                               {"decode_tokens_per_s", p.decode_tokens_per_s}});
  }
  // The first batch once more where a script with one batch looks for it.
  if (!batches.empty()) file["users"] = file["batches"][0]["users"];
  file["totals"] = {{"prompt_tokens", prompt_tokens},
                    {"output_tokens", output_tokens},
                    {"load_s", summary.load_s},
                    {"run_s", summary.run_s},
                    {"speculation", speculation_json(speculation)}};
  // Text can end in half a character only if the model did so; then it has U+FFFD already.
  return file.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Status write_answer_file(const std::string& path, const std::string& text) {
  std::error_code ignored;
  // Through a symbolic link to what it names; and a device or pipe is written to, not replaced.
  std::string target = std::filesystem::weakly_canonical(path, ignored).string();
  if (target.empty()) target = path;
  if (!std::filesystem::exists(target, ignored) ||
      std::filesystem::is_regular_file(target, ignored)) {
    Status written = write_whole_file(target, text);
    if (!written) return at_place(std::move(written).error(), path);
    return {};
  }
  std::ofstream out(target, std::ios::binary);
  out << text;
  out.close();
  if (!out) return io_error(path, "cannot be written");
  return {};
}

Status check_writable(const std::string& path) {
  if (path.empty()) return {};
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return at_place(Error{ErrorCode::kBadArgument, "is a directory", {}}, path);
  }
  if (std::filesystem::exists(path, ignored)) {
    // For root everything is writable but what has no write bit was not meant to be.
    const auto bits = std::filesystem::status(path, ignored).permissions();
    constexpr auto kWrite = std::filesystem::perms::owner_write |
                            std::filesystem::perms::group_write |
                            std::filesystem::perms::others_write;
    if ((bits & kWrite) == std::filesystem::perms::none) {
      return at_place(Error{ErrorCode::kIo, "is read-only", {}}, path);
    }
    if (::access(path.c_str(), W_OK) != 0) return io_error(path, "cannot be written");
    if (!std::filesystem::is_regular_file(path, ignored)) return {};
  }
  std::filesystem::path folder = std::filesystem::weakly_canonical(path, ignored).parent_path();
  if (folder.empty()) folder = ".";
  if (::access(folder.c_str(), W_OK) != 0) return io_error(path, "cannot be written");
  return {};
}

}  // namespace tg
