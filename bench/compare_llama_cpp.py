"""Decode at batch 1 and prefill: Llama3 TG and llama.cpp on one GGUF file, taking turns.

Called by compare_llama_cpp.sh. Of llama.cpp only the calls of llama_decode are timed, without Python's
and the sampler's part; of Llama3 TG the whole time between two tokens, scheduler and sampler included.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import llama_cpp
import numpy as np


class LlamaCpp:
    def __init__(self, model, threads, context):
        llama_cpp.llama_backend_init()
        self.silence = llama_cpp.llama_log_callback(lambda *_: None)  # C keeps a pointer to it
        llama_cpp.llama_log_set(self.silence, None)
        self.model = llama_cpp.llama_model_load_from_file(
            model.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def decode(self, ids):
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        begin = time.perf_counter()
        status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(ids)))
        elapsed = time.perf_counter() - begin
        assert status == 0, status
        logits = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(self.context, -1), shape=(self.vocab,))
        return int(np.argmax(logits)), elapsed

    def run(self, prompt, count):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        token, prefill = self.decode(prompt)
        out, times = [token], []
        for _ in range(count - 1):
            token, elapsed = self.decode([token])
            out.append(token)
            times.append(elapsed)
        return out, prefill, times


def run_ours(program, model, threads, prompt, count):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        subprocess.run([program, "generate", "--model", model, "--threads", str(threads),
                        "--prompt-ids", ",".join(map(str, prompt)), "--max-generated-tokens",
                        str(count), "--stop-at-eos", "0", "--max-seq-len", "1024",
                        "--output", out], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        with open(out) as f:
            user = json.load(f)["users"][0]
    times = user["token_times_s"]
    return user["output_ids"], times[0], [b - a for a, b in zip(times, times[1:])]


def one_round(number, theirs, args, prompt):
    ids_b, prefill_b, times_b = theirs.run(prompt, args.tokens)
    ids_a, prefill_a, times_a = run_ours(args.program, args.model, args.threads, prompt, args.tokens)
    same = next((k for k, (a, b) in enumerate(zip(ids_a, ids_b)) if a != b), len(ids_a))
    row = {"decode_ours_s": statistics.median(times_a),
           "decode_llama_cpp_s": statistics.median(times_b),
           "prefill_ours_s": prefill_a, "prefill_llama_cpp_s": prefill_b,
           "equal_tokens": same, "load": os.getloadavg()[0]}
    print(f"prompt of {len(prompt)}, round {number + 1}: decode {1e3 * row['decode_ours_s']:.2f} ms, "
          f"llama.cpp {1e3 * row['decode_llama_cpp_s']:.2f} ms per token; prefill "
          f"{1e3 * prefill_a:.0f} ms, llama.cpp {1e3 * prefill_b:.0f} ms; first {same} tokens equal",
          flush=True)
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--tokens", type=int, default=96)
    args = parser.parse_args()
    with open("tests/golden/smollm2.json") as f:
        text_ids = json.load(f)["text_ids"]
    theirs = LlamaCpp(args.model, args.threads, 1024)
    theirs.run(text_ids[:512], 4)  # warm caches, as loading does for ours
    result = {"threads": args.threads}
    for length in (16, 512):
        rows = [one_round(i, theirs, args, text_ids[:length]) for i in range(args.rounds)]
        result[str(length)] = {"rounds": rows}
        for what in ("decode", "prefill"):
            result[str(length)][what + "_ratio"] = statistics.median(
                r[what + "_llama_cpp_s"] / r[what + "_ours_s"] for r in rows)
        print(f"prompt of {length}: median ratio over {len(rows)} rounds (above 1: Llama3 TG is "
              f"faster): decode {result[str(length)]['decode_ratio']:.2f}, "
              f"prefill {result[str(length)]['prefill_ratio']:.2f}", flush=True)
    with open("bench/out/llama_cpp.json", "w") as f:
        json.dump(result, f, indent=1)


main()
