"""Perplexity of a real model in Llama3 TG and in llama.cpp, from the same files: the model as bf16, and that
rounded by llama.cpp to Q8_0 and to Q4_0.

    .venv-bench-llama/bin/python -m pip install gguf==0.19.0   # after bench/peers/run.sh made the environment
    .venv-bench-llama/bin/python bench/peers/check_perplexity.py models/SmolLM2-135M-Instruct.Q4_1.gguf TEXT

One window of all tokens; both get the ids of our tokenizer. A line per file and per table of kernels asked for.
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

FORMS = {"bf16": None, "q8_0": lib.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": lib.LLAMA_FTYPE_MOSTLY_Q4_0}


def make_file(source, folder, form):
    path = os.path.join(folder, f"{form}.gguf")
    if form == "bf16":
        subprocess.run([sys.executable, "tools/gguf_to_bf16.py", source, path], check=True)
        return path
    params = lib.llama_model_quantize_default_params()
    params.ftype = FORMS[form]
    params.pure = True  # every matrix, the embedding too
    bf16 = os.path.join(folder, "bf16.gguf")
    if lib.llama_model_quantize(bf16.encode(), path.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"check_perplexity.py: llama.cpp could not make {form}")
    return path


def theirs(path, ids, threads):
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = (len(ids) + 255) // 256 * 256
    params.n_threads = params.n_threads_batch = threads
    context = lib.llama_init_from_model(model, params)
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i] = token
        batch.pos[i] = i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = 1
    assert lib.llama_decode(context, batch) == 0
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    total = 0.0
    for i in range(len(ids) - 1):
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), shape=(vocab,)).astype(np.float64)
        total += logits.max() + np.log(np.exp(logits - logits.max()).sum()) - logits[ids[i + 1]]
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)
    return float(np.exp(total / (len(ids) - 1)))


def ours(args, path, ids_file, count, kernels):
    out = subprocess.run([args.program, "perplexity", ids_file, "--ids", "--model", path, "--window", str(count),
                          "--threads", str(args.threads), "--kernels", kernels],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)["perplexity"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kernels", default="auto", help="tables, separated by commas")
    args = parser.parse_args()
    silence = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(silence, ctypes.c_void_p(0))
    with open(args.text, encoding="utf-8") as f:
        line = subprocess.run([args.program, "tokenize", "--bos", "--model", args.model], input=f.read(), text=True,
                              check=True, capture_output=True).stdout
    ids = [int(word) for word in line.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        ids_file = os.path.join(folder, "ids")
        with open(ids_file, "w") as f:
            f.write(line)
        for form in FORMS:
            path = make_file(args.model, folder, form)
            peer = theirs(path, ids, args.threads)
            for kernels in args.kernels.split(","):
                value = ours(args, path, ids_file, len(ids), kernels)
                print(f"{form}, {len(ids)} tokens: llama.cpp {peer:.3f}, ours ({kernels}) {value:.3f}, "
                      f"ratio {value / peer:.4f}", flush=True)


main()
