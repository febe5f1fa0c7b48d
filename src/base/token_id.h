// What: the type of a token of the vocabulary, shared by text and engine, which do not know each
// other.
// Who owns: plain value. Thread: any.
#pragma once

#include <cstdint>

namespace tg {

using TokenId = std::int32_t;

}  // namespace tg
