#include "checkpoint/repack_companions.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "checkpoint/config_writers.h"

namespace tg {
namespace {

namespace fs = std::filesystem;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The dtype that most of the bytes have.
DType usual_dtype(const RepackPlan& plan) {
  std::map<DType, std::uint64_t> bytes;
  for (const PlannedFile& file : plan.files) {
    for (const PlannedTensor& t : file.tensors) bytes[t.dtype] += t.bytes;
  }
  const auto usual = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return usual->first;
}

// Whatever of a tokenizer lies beside the weights; Hugging Face's directories have Meta's in a
// folder.
void add_tokenizer(const std::string& in, const ModelConfig& config, RepackForm form,
                   Companions& out) {
  if (config.format == "random") return;  // comes from nowhere
  const std::string wanted = form == RepackForm::kRepacked ? "tokenizer.model" : "tokenizer.json";
  if (config.format == "gguf") {
    out.missing.push_back(fmt::format(
        "{}: a GGUF file keeps its tokenizer to itself, so the target has no {}", in, wanted));
    return;
  }
  bool found = false;
  for (const std::string name :
       {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja"}) {
    std::string path = fmt::format("{}/{}", in, name);
    if (!is_file(path) && name == "tokenizer.model") path = in + "/original/tokenizer.model";
    if (!is_file(path)) continue;
    found = found || name == wanted;
    out.before.push_back({.name = name, .text = {}, .copy_of = path});
  }
  if (!found) {
    out.missing.push_back(fmt::format("{}: no {} there, so the target has none", in, wanted));
  }
}

}  // namespace

Result<Companions> plan_companions(const std::string& in, const ModelConfig& config,
                                   const RepackPlan& plan) {
  Companions out;
  if (plan.form == RepackForm::kRepacked) {
    SmallFile params{.name = "params.json", .text = {}, .copy_of = {}};
    if (config.format == "meta" || config.format == "repacked") {
      params.copy_of = in + "/params.json";
    } else {
      TG_ASSIGN(params.text, meta_params_text(config));
    }
    out.before.push_back(std::move(params));
    add_tokenizer(in, config, plan.form, out);
    return out;
  }
  const bool same_form = config.format == "huggingface";
  SmallFile model{.name = "config.json", .text = {}, .copy_of = {}};
  SmallFile generation{.name = "generation_config.json", .text = {}, .copy_of = {}};
  if (same_form) {
    model.copy_of = in + "/config.json";
    generation.copy_of = in + "/generation_config.json";
  } else {
    TG_ASSIGN(model.text, huggingface_config_text(config, usual_dtype(plan)));
    generation.text = generation_config_text(config);
  }
  out.before.push_back(std::move(model));
  if (!same_form || is_file(generation.copy_of)) out.before.push_back(std::move(generation));
  add_tokenizer(in, config, plan.form, out);
  out.after.push_back({.name = "model.safetensors.index.json", .text = plan.index, .copy_of = {}});
  return out;
}

}  // namespace tg
