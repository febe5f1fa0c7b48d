#!/bin/sh
# Decode and prefill beside llama.cpp (the Python package llama-cpp-python) on the same BF16 weights,
# interleaved in one run; prints medians and their ratio, and leaves bench/out/llama_cpp.json.
#   bench/compare_llama_cpp.sh [THREADS] [ROUNDS]
# The first call makes a virtual environment, .venv-bench, and builds llama.cpp in it (minutes).
set -eu
cd "$(dirname "$0")/.."
threads=${1:-$(nproc)}
rounds=${2:-7}
python=.venv-bench/bin/python
if ! [ -x "$python" ] || ! "$python" -c 'import llama_cpp, gguf' 2>/dev/null; then
  echo "Making .venv-bench with llama-cpp-python (built from source, some minutes)" >&2
  python3 -m venv .venv-bench
  .venv-bench/bin/pip install -q --disable-pip-version-check \
    llama-cpp-python==0.3.36 gguf==0.19.0 'numpy<3'
fi
mkdir -p bench/out
model=$(tools/fetch_model.sh)
bf16=bench/out/SmolLM2-135M-Instruct.BF16.gguf
[ -f "$bf16" ] || "$python" tools/gguf_to_bf16.py "$model" "$bf16"
exec "$python" bench/compare_llama_cpp.py --model "$bf16" --threads "$threads" --rounds "$rounds"
