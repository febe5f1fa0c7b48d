#!/bin/sh
# Runs every fuzz target for SECONDS, each from a small seed corpus and from what earlier runs found.
#
#   tests/fuzz/run.sh SECONDS [BUILD_FOLDER] [TARGET...]
#
# BUILD_FOLDER (default build/asan) must be configured with clang, TG_FUZZ=ON and
# TG_SANITIZE=address,undefined, as the preset "asan" is; its targets must be built. Corpora and
# artifacts (inputs that crash) stay in BUILD_FOLDER/fuzz. Exits with 1 when a target found something.
set -eu
if [ $# -lt 1 ]; then
  sed -n '2,10p' "$0"
  exit 2
fi
source=$(cd "$(dirname "$0")/../.." && pwd)
seconds=$1
build=${2:-$source/build/asan}
shift
[ $# -eq 0 ] || shift
work=$build/fuzz
programs=$build/tests/fuzz
if [ $# -eq 0 ]; then
  for file in "$source"/tests/fuzz/fuzz_*.cpp; do set -- "$@" "$(basename "$file" .cpp)"; done
fi

mkdir -p "$work/artifacts"
python3 "$source/tests/fuzz/make_seeds.py" "$work/seeds" > /dev/null
findings=0
for target in "$@"; do
  if [ ! -x "$programs/$target" ]; then
    echo "$target: not built in $programs" >&2
    exit 2
  fi
  mkdir -p "$work/corpus/$target" "$work/seeds/$target"
  echo "== $target for $seconds s"
  # 1 GiB and 25 s per input: the readers are linear in an input of at most 64 KiB, but a shared
  # machine may stand still for seconds.
  if ! "$programs/$target" -max_total_time="$seconds" -max_len=65536 -timeout=25 \
      -rss_limit_mb=1024 -print_final_stats=1 -verbosity=1 \
      -artifact_prefix="$work/artifacts/$target-" \
      "$work/corpus/$target" "$work/seeds/$target" > "$work/$target.log" 2>&1; then
    findings=$((findings + 1))
    echo "$target: FINDING; log $work/$target.log, input in $work/artifacts" >&2
    tail -n 40 "$work/$target.log" >&2
  else
    grep -E "^(stat::number_of_executed_units|stat::peak_rss_mb)" "$work/$target.log"
    grep -E "cov:" "$work/$target.log" | tail -n 1
  fi
done
[ "$findings" -eq 0 ]
