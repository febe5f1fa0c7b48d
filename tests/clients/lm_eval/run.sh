#!/bin/sh
# lm-evaluation-harness on the server (local-completions, tokens from the server's own endpoints) and on transformers
# (float32, CPU), the same weights and the same 200 items. Where the server computes in f32 scores must be the same to
# 0.001 and log-likelihoods to 0.02, of the GGUF file as well as of the Hugging Face directory that is made of it for
# transformers. What bf16 makes of them is printed too.
#
#   tests/clients/lm_eval/run.sh [PROGRAM [MODEL]]   default: ./llama-tg and the model of tools/fetch_model.sh
# The first call makes a virtual environment in build/lm_eval (1.8 GB) of requirements.txt (PyPI).
set -eu
cd "$(dirname "$0")/../../.."
program=${1:-./llama-tg}
model=${2:-$(tools/fetch_model.sh | tail -n 1)}
here=tests/clients/lm_eval
work=build/lm_eval
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$PWD/$work/cache" TOKENIZERS_PARALLELISM=false
export OPENAI_API_KEY=none

tests/clients/make_venv.sh "$here/requirements.txt" "$work"

evaluate() {  # evaluate LABEL OPTION...
  label=$1
  shift
  rm -rf "${work:?}/$label"
  "$work/venv/bin/python" -m lm_eval run --tasks tg_facts --include_path "$here" --log_samples \
    --output_path "$work/$label" "$@" >"$work/$label.log" 2>&1 || { tail -n 20 "$work/$label.log" >&2; exit 1; }
}

if [ ! -f "$work/model/config.json" ]; then
  "$work/venv/bin/python" "$here/make_model.py" "$model" "$work/model" >"$work/make_model.log" 2>&1 ||
    { tail -n 20 "$work/make_model.log" >&2; exit 1; }
fi
evaluate theirs --model hf --model_args "pretrained=$work/model,dtype=float32" --device cpu --batch_size 8

server=
stop() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  server=
}
trap stop EXIT
trap 'exit 130' INT TERM

serve() {  # serve OPTION...: sets url
  "$program" serve --port 0 --served-model-name m --max-users 8 "$@" >"$work/server.out" 2>"$work/server.log" &
  server=$!
  url=
  for _ in $(seq 600); do
    url=$(sed -n 's/^Listening on //p' "$work/server.out")
    [ -z "$url" ] || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/server.log" >&2
  exit 1
}

compare() {
  "$work/venv/bin/python" "$here/compare.py" "$1" "$work/$1" "$work/theirs" --score "$2" --loglikelihood "$3"
}

ours() {  # ours LABEL MODEL COMPUTE_DTYPE
  serve --model "$2" --compute-dtype "$3"
  evaluate "$1" --model local-completions --batch_size 4 --model_args \
    "model=m,base_url=$url/v1/completions,tokenizer_backend=remote,num_concurrent=4,max_retries=1"
  stop
}

ours bf16 "$work/model" bf16
ours f32 "$work/model" f32
ours gguf-f32 "$model" f32
compare bf16 1 inf
compare f32 0.001 0.02
compare gguf-f32 0.001 0.02
