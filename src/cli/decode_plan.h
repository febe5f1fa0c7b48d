// What: what a decode demo will do, from its options and its case: iterations, positions, pages,
//   weights, prompts. All is checked here, before any weights are read.
// Who owns: plain values. Thread: the main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/context_plan.h"
#include "cli/decode_cases.h"
#include "cli/decode_report.h"
#include "cli/demo_prompts.h"
#include "cli/opened_model.h"
#include "cli/weights_options.h"

namespace tg {

struct DecodeDemoOptions {
  ModelOptions model;
  WeightsOptions weights;
  std::string demo_case = "full";
  std::optional<std::string> input_prompts;
  std::string prompt_ids;
  int instruct = 1;
  std::int64_t repeat_batches = 1;
  std::optional<std::int64_t> max_seq_len;
  std::int64_t batch_size = kDecodeUsers;
  std::optional<std::int64_t> max_generated_tokens;
  int paged_attention = 1;
  std::string page_params;
  std::string sampling_params;
  std::optional<int> stress_test;
  std::optional<std::int64_t> start_pos;
  std::string target_tsu;
  std::optional<std::uint64_t> seed;
  int print_outputs = 0;
  std::optional<int> time_operations;
  std::string output;
};

// A case with the options that override it.
struct DecodePlan {
  std::int64_t iterations = 0;
  std::int64_t start_pos = 0;
  bool stress = false;
  bool time_operations = false;
  PageParams pages{64, 0};               // 0: as many as the run can use
  std::vector<SamplingParams> sampling;  // [users]
  std::optional<TsuTarget> target;
  WeightsWanted weights;

  // Positions that each user's pages must hold.
  std::int64_t positions() const { return start_pos + (stress ? 1 : iterations); }
};

Result<DecodePlan> make_decode_plan(const DecodeDemoOptions& o, const DecodeCase& c);

// The pages that the run can use. kOutOfCapacity with the sum when the model's context,
// --max-seq-len or the pages hold less than the run's last position.
Result<ContextPlan> plan_decode_pages(const DecodeDemoOptions& o, const DecodePlan& plan,
                                      const ModelConfig& config, const MeshShape& mesh);

// One for all users, or at least one for each.
Result<std::vector<DemoPrompt>> read_decode_prompts(const DecodeDemoOptions& o,
                                                    const DecodePlan& plan,
                                                    const OpenedModel& model);

}  // namespace tg
