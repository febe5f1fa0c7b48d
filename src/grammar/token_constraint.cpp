#include "grammar/token_constraint.h"

#include <utility>

#include "grammar/grammar.h"
#include "grammar/regex_parser.h"
#include "text/utf8.h"

namespace tg {
namespace {

class FormConstraint : public TokenConstraint {
 public:
  FormConstraint(std::shared_ptr<const TokenVocabulary> vocabulary,
                 const std::shared_ptr<const Grammar>& grammar)
      : vocabulary_(std::move(vocabulary)),
        masks_(grammar->masks_for(vocabulary_)),
        run_(grammar->form()) {}

  Result<std::span<const std::uint32_t>> allowed_after(std::span<const TokenId> output) override {
    // Another answer than before: from the start.
    if (output.size() < followed_ || (followed_ > 0 && output[followed_ - 1] != last_)) {
      run_ = FormRun(run_.shared_form());
      followed_ = 0;
      stopped_ = false;
    }
    for (; followed_ < output.size(); ++followed_) {
      TG_RETURN_IF_ERROR(follow(output[followed_]));
      last_ = output[followed_];
    }
    if (stopped_) {  // ignore_eos: what comes behind the end is not text of the form
      auto mask = std::make_shared<MaskWords>(vocabulary_->mask_words());
      add_to_mask(vocabulary_->stop_ids(), *mask);
      mask_ = std::move(mask);
    } else {
      TG_ASSIGN(mask_, masks_->mask_at(run_));
    }
    return std::span<const std::uint32_t>(*mask_);
  }

 private:
  Status follow(TokenId id) {
    if (vocabulary_->is_stop(id)) {
      if (!stopped_ && !run_.complete()) return misfit(id);
      stopped_ = true;
      return {};
    }
    const std::span<const std::uint8_t> bytes = vocabulary_->bytes(id);
    if (stopped_ || bytes.empty()) return misfit(id);
    for (const std::uint8_t byte : bytes) {
      TG_RETURN_IF_ERROR(run_.follow(byte));
    }
    if (run_.threads().empty() && !run_.complete()) return misfit(id);
    return {};
  }

  tl::unexpected<Error> misfit(TokenId id) const {
    const std::span<const std::uint8_t> bytes = vocabulary_->bytes(id);
    return error(ErrorCode::kInternal,
                 "token {} of the answer (id {}, {}) does not follow its form", followed_, id,
                 shown_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  }

  std::shared_ptr<const TokenVocabulary> vocabulary_;
  std::shared_ptr<TokenMasks> masks_;
  FormRun run_;
  std::size_t followed_ = 0;  // tokens of the answer
  TokenId last_ = 0;
  bool stopped_ = false;  // a stop id was among them
  std::shared_ptr<const MaskWords> mask_;
};

Result<std::shared_ptr<const Grammar>> leaf_grammar(FormBuilder& builder, ByteAutomaton automaton) {
  const std::uint32_t rule = builder.declare_rule();
  TG_ASSIGN(const std::uint32_t leaf, builder.add_leaf(FormLeaf(std::move(automaton))));
  builder.define_rule(rule, builder.leaf(leaf, FormBuilder::kReturn));
  TG_ASSIGN(std::shared_ptr<const Form> form, builder.finish());
  return std::make_shared<const Grammar>(std::move(form));
}

}  // namespace

std::size_t memory_of(const Grammar& grammar) { return grammar.form()->memory(); }

Result<std::shared_ptr<const Grammar>> choice_grammar(std::span<const std::string> texts) {
  if (texts.empty()) return error(ErrorCode::kBadInput, "no text to choose from");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t valid = valid_utf8_prefix(texts[i]);
    if (valid != texts[i].size()) {
      return error(ErrorCode::kBadInput, "choice {} is not UTF-8 from byte {} on", i, valid);
    }
    if (texts[i].empty()) return error(ErrorCode::kBadInput, "choice {} is empty", i);
  }
  FormBuilder builder;
  TG_ASSIGN(ByteAutomaton automaton,
            ByteAutomaton::one_of({texts.begin(), texts.end()}, builder.budget()));
  return leaf_grammar(builder, std::move(automaton));
}

Result<std::shared_ptr<const Grammar>> regex_grammar(std::string_view pattern) {
  TG_ASSIGN(const Regex tree, parse_regex(pattern, RegexUse::kWholeText));
  FormBuilder builder;
  TG_ASSIGN(ByteAutomaton automaton, ByteAutomaton::compile(tree, builder.budget()));
  return leaf_grammar(builder, std::move(automaton));
}

std::unique_ptr<TokenConstraint> make_token_constraint(
    std::shared_ptr<const TokenVocabulary> vocabulary,
    const std::shared_ptr<const Grammar>& grammar) {
  return std::make_unique<FormConstraint>(std::move(vocabulary), grammar);
}

}  // namespace tg
