"""Whether llama.cpp and Llama3 TG compute the same model from the same file: log-probabilities of the next id
after a prompt, on small random-weight files of every format that make-random writes.

    .venv-bench-llama/bin/python bench/peers/check_logits.py        # after bench/peers/run.sh made it

Of the f32 file both compute in f32; of the others llama.cpp rounds its inputs (to bf16, or to 8 bits in groups
of 32), so these may differ by as much.
"""
import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile

import llama_cpp as lib
import numpy as np

PROMPT = [5, 900, 77, 3, 1000, 512, 8, 9, 10, 11, 123]
MOST = {"f32": 1e-4, "bf16": 0.03, "q8_0": 0.06, "q4_0": 0.06}  # log-probabilities; logits are of order 1


def theirs(path):
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.type_k = params.type_v = 0  # f32
    params.flash_attn_type = 0
    context = lib.llama_init_from_model(model, params)
    ids = (lib.llama_token * len(PROMPT))(*PROMPT)
    assert lib.llama_decode(context, lib.llama_batch_get_one(ids, len(PROMPT))) == 0
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), shape=(vocab,)).astype(np.float64)
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def ours(program, path, folder):
    out = os.path.join(folder, "out.json")
    subprocess.run([program, "generate", "--model", path, "--prompt-ids", ",".join(map(str, PROMPT)),
                    "--max-generated-tokens", "1", "--compute-dtype", "f32", "--logprobs", "50",
                    "--stop-at-eos", "0", "--output", out], check=True, capture_output=True)
    with open(out) as f:
        return {entry["id"]: entry["logprob"] for entry in json.load(f)["users"][0]["logprobs"][0]["top"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="./llama-tg")
    args = parser.parse_args()
    silence = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(silence, ctypes.c_void_p(0))
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        for form, most in MOST.items():
            path = os.path.join(folder, f"{form}.gguf")
            subprocess.run([args.program, "make-random", path, "--arch", "tiny", "--weights-dtype", form],
                           check=True, capture_output=True)
            logprobs = theirs(path)
            difference = max(abs(p - logprobs[i]) for i, p in ours(args.program, path, folder).items())
            print(f"{form}: largest difference of the best 50 log-probabilities {difference:.2e}, allowed {most:g}")
            bad = bad or not difference <= most
    sys.exit(1 if bad else 0)


main()
