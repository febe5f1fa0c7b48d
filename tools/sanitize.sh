#!/bin/sh
# The readers' tests under AddressSanitizer and UndefinedBehaviorSanitizer, then every fuzz target.
#   tools/sanitize.sh SECONDS_PER_TARGET [TESTS]      TESTS: "tensor checkpoint text" or some of them
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-20}
tests=${2:-tensor checkpoint text}
tools/fetch_model.sh >/dev/null
tools/fetch_model.sh tokenizer >/dev/null
cmake --preset asan >/dev/null
fuzzers=$(cd tests/fuzz && ls fuzz_*.cpp | sed 's/\.cpp$//')
cmake --build build/asan -j "$(nproc)" --target \
  $(for test in $tests; do echo "${test}_test"; done) $fuzzers
for program in $tests; do
  echo "== ${program}_test"
  timeout 600 "build/asan/tests/${program}_test" --gtest_brief=1
done

# Two at a time: a target uses one core.
set -- $fuzzers
half=$(($# / 2))
first=
while [ "$half" -gt 0 ]; do
  first="$first $1"
  shift
  half=$((half - 1))
done
tests/fuzz/run.sh "$seconds" build/asan $first &
tests/fuzz/run.sh "$seconds" build/asan "$@"
wait $!
