#include "text/split_pattern.h"

#include <array>
#include <string>
#include <utility>

#include "text/pattern_syntax.h"
#include "text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace tg {

// Not in the unnamed namespace, as members of named structs are of these types.
namespace split_pattern {

template <auto kFree>
struct Freeing {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using MatchData = std::unique_ptr<pcre2_match_data, Freeing<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freeing<pcre2_match_context_free>>;
using Code = std::unique_ptr<pcre2_code, Freeing<pcre2_code_free>>;

}  // namespace split_pattern

namespace {

// Llama 3's pattern takes 3.2 steps a byte on English and on its worst text, a run of spaces.
constexpr std::int64_t kStepsPerByte = 64;
constexpr std::int64_t kStepsPerText = 100'000;
// A step costs time in proportion to the pattern at worst (a class of a thousand characters), so
// the price of a step is 1 per this many bytes of pattern.
constexpr std::size_t kPatternBytesPerPrice = 512;
constexpr std::size_t kLongestPattern =
    4096;  // the longest in use known to us has about 1100 bytes
// For the interpreter, which takes over when the compiled code's 32 KiB of stack do not suffice.
constexpr std::uint32_t kHeapKib = 64 * 1024;

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::size_t next_character(std::string_view text, std::size_t at) {
  return at + utf8_step(text.substr(at)).length;
}

}  // namespace

struct SplitWork::Matching {
  split_pattern::MatchData data{pcre2_match_data_create(1, nullptr)};
  split_pattern::MatchContext context{pcre2_match_context_create(nullptr)};

  // PCRE2 calls this before each item of the pattern. A negative result ends the match with it.
  static int count_step(pcre2_callout_block* block, void* object) {
    SplitWork& work = *static_cast<SplitWork*>(object);
    const std::size_t position = block->current_position;
    const std::size_t moved = position > work.position_ ? position - work.position_ : 0;
    work.position_ = position;
    work.steps_left_ -= work.price_ * (1 + static_cast<std::int64_t>(moved));
    return work.steps_left_ < 0 ? PCRE2_ERROR_CALLOUT : 0;
  }
};

SplitWork::SplitWork(std::size_t text_bytes)
    : steps_left_(kStepsPerText + kStepsPerByte * static_cast<std::int64_t>(text_bytes)),
      matching_(std::make_unique<Matching>()) {
  if (matching_->context == nullptr || matching_->data == nullptr) {  // out of memory
    steps_left_ = -1;
    return;
  }
  pcre2_set_callout(matching_->context.get(), Matching::count_step, this);
  pcre2_set_heap_limit(matching_->context.get(), kHeapKib);
  pcre2_set_match_limit(matching_->context.get(), ~std::uint32_t{0});  // the budget is the limit
}

SplitWork::~SplitWork() = default;

struct SplitPattern::Compiled {
  split_pattern::Code code;
  std::int64_t price;
};

SplitPattern::SplitPattern(std::shared_ptr<const Compiled> compiled)
    : compiled_(std::move(compiled)) {}

Result<SplitPattern> SplitPattern::compile(std::string_view regex) {
  if (regex.size() > kLongestPattern) {
    return error(ErrorCode::kUnsupported, "a split pattern of {} bytes; at most {} are supported",
                 regex.size(), kLongestPattern);
  }
  TG_RETURN_IF_ERROR(check_pattern_syntax(regex));
  // Lines as in Ruby's syntax: ^ and $ are the borders of every line, and a line ends at \n only.
  // Without start optimisations: they scan ahead where no callout counts.
  constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_AUTO_CALLOUT | PCRE2_MULTILINE |
                                     PCRE2_NO_START_OPTIMIZE | PCRE2_NEVER_BACKSLASH_C;
  const std::unique_ptr<pcre2_compile_context, split_pattern::Freeing<pcre2_compile_context_free>>
      context(pcre2_compile_context_create(nullptr));
  if (context != nullptr) pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  split_pattern::Code compiled(
      pcre2_compile(units(regex), regex.size(), kOptions, &code, &offset, context.get()));
  if (compiled == nullptr) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(code, message.data(), message.size());
    return error(ErrorCode::kBadInput, "the split pattern {}: {} at offset {}", shown_text(regex),
                 reinterpret_cast<const char*>(message.data()), offset);
  }
  // Without a compiler for this machine the interpreter does the same, at half the speed.
  static_cast<void>(pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE));
  SplitPattern pattern(std::make_shared<const Compiled>(Compiled{
      std::move(compiled), 1 + static_cast<std::int64_t>(regex.size() / kPatternBytesPerPrice)}));

  // A pattern that is worse than linear shows it on some run of equal characters.
  constexpr std::size_t kProbeCharacters = 4096;
  for (const std::string_view character : {"a", "A", " ", "\n", "1", "!", "\xE4\xB8\xAD"}) {
    std::string probe;
    for (std::size_t i = 0; i < kProbeCharacters; ++i) probe += character;
    probe += '\x01';  // what makes (a+)+b try everything before it gives up
    SplitWork work(probe.size());
    std::vector<std::string_view> pieces;
    pattern.split(probe, work, pieces);
    if (work.exhausted()) {
      return error(ErrorCode::kUnsupported,
                   "the split pattern {} takes more than {} steps on {} times {}",
                   shown_text(regex),
                   kStepsPerText + kStepsPerByte * static_cast<std::int64_t>(probe.size()),
                   kProbeCharacters, shown_text(character));
    }
  }
  return pattern;
}

void SplitPattern::split(std::string_view text, SplitWork& work,
                         std::vector<std::string_view>& pieces) const {
  const auto add = [&](std::size_t begin, std::size_t end) {
    if (begin < end) pieces.push_back(text.substr(begin, end - begin));
  };
  work.price_ = compiled_->price;
  pcre2_match_data* data = work.matching_->data.get();
  std::size_t taken = 0;  // text before this is in `pieces`
  std::size_t from = 0;   // where the search goes on: after `taken` behind an empty match
  while (from < text.size() && !work.exhausted()) {
    work.position_ = from;
    std::uint32_t options = PCRE2_NO_UTF_CHECK;
    const auto match = [&] {
      return pcre2_match(compiled_->code.get(), units(text), text.size(), from, options, data,
                         work.matching_->context.get());
    };
    int result = match();
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      options |= PCRE2_NO_JIT;
      result = match();
    }
    if (result < 0) {
      // Any limit, not only ours (the interpreter's memory), ends the splitting of this text.
      if (result != PCRE2_ERROR_NOMATCH) work.steps_left_ = -1;
      break;
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
    add(taken, bounds[0]);
    add(bounds[0], bounds[1]);
    taken = from = bounds[1];
    // An empty match is a border between pieces too; the search goes on behind the next character.
    if (bounds[0] == bounds[1] && from < text.size()) from = next_character(text, from);
  }
  add(taken, text.size());
}

}  // namespace tg
