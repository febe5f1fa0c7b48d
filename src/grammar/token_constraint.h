// What: which tokens may come next when the answer has to be of a given form: one of some texts, a
//   regular expression, JSON, or JSON of a schema. The form is an automaton over bytes; a token may
//   come if all its bytes can be followed from the current state.
// Who owns: a TokenVocabulary is shared by all requests; one TokenConstraint belongs to one
// request. Thread: a TokenVocabulary and a Grammar are immutable, any thread; a TokenConstraint:
// one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"
#include "text/tokenizer.h"

namespace tg {

// The vocabulary as a trie of bytes: made once per tokenizer.
class TokenVocabulary;
// `stop_ids` are allowed where the form is complete. Special tokens are never allowed elsewhere.
std::shared_ptr<const TokenVocabulary> make_token_vocabulary(const Tokenizer& tokenizer,
                                                             std::span<const TokenId> stop_ids);

// A form. kBadInput with place and reason for what is malformed, kUnsupported by name for what is
// not understood (e.g. "$dynamicRef"), kOutOfCapacity with numbers where it becomes too large.
// It keeps masks that were made of it: who gets the same form again should keep the Grammar.
class Grammar;
// The bytes of its automata; masks come on top, see token_masks.h.
std::size_t memory_of(const Grammar& grammar);
// One of the texts, none of them empty.
Result<std::shared_ptr<const Grammar>> choice_grammar(std::span<const std::string> texts);
// A regular expression over UTF-8 text that the whole answer has to match: see regex_parser.h.
Result<std::shared_ptr<const Grammar>> regex_grammar(std::string_view pattern);
// Any JSON object. Of all JSON here: white space is bounded (json_texts.h), numbers have up to 18
// digits before and behind the point and two in the exponent, and nesting ends at about 100, so
// that any reader can read it and a model cannot go on for ever with what says nothing.
Result<std::shared_ptr<const Grammar>> json_object_grammar();
// JSON of a schema (the text of a JSON document). Every text is valid by the schema; not every
// valid one can be written. Decided beyond the standard, as vLLM and OpenAI's strict mode have it:
// - Properties come in the schema's order, others behind them.
// - "additionalProperties" that is absent is false beside "properties", true without; items behind
//   "prefixItems" come only where "items" says so.
// - "oneOf" is "anyOf". Keywords of a type ("minLength", "items") without "type" mean that type.
// - "format" is a rule: date, time, date-time, duration, uuid, email, ipv4, hostname, uri; others
//   of JSON Schema are kUnsupported, and names that it does not have are ignored.
// - Keywords that are not JSON Schema's are ignored, as the standard wants.
Result<std::shared_ptr<const Grammar>> json_schema_grammar(std::string_view schema);

class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Bit i of word i / 32: id i may follow `output` (all tokens of the answer so far; each call has
  // what the last one had, and more; otherwise it is followed from the start). Valid until the next
  // call. Behind a stop id (ignore_eos) only stop ids may come. kInternal when `output` does not
  // follow the form, kOutOfCapacity when the form is too ambiguous at this point.
  virtual Result<std::span<const std::uint32_t>> allowed_after(std::span<const TokenId> output) = 0;
};
std::unique_ptr<TokenConstraint> make_token_constraint(
    std::shared_ptr<const TokenVocabulary> vocabulary,
    const std::shared_ptr<const Grammar>& grammar);

}  // namespace tg
