// Test helper: how often some code asks for memory, from any thread.
#pragma once

#include <cstdint>
#include <functional>

namespace tg::test {

// Calls of malloc and its relatives, operator new and mmap while `code` runs.
std::int64_t memory_calls(const std::function<void()>& code);

}  // namespace tg::test
