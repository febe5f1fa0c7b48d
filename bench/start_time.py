#!/usr/bin/env python3
"""Seconds from a start to the first token: ours without a weights cache, ours with one that is there,
and llama.cpp, in turns on one GGUF file; prints medians and the ratios of the rounds.

    bench/start_time.py --model m.gguf --program ./llama-tg [--llama .venv-bench-llama/bin/python]
                        [--threads 2] [--rounds 5] [--cold]

Ours is the whole process, from exec to its end, with the reading of the tokenizer and the prompt of three
ids. Of llama.cpp only what follows the import of its library counts: backend, model, context of 128
and the same prompt. It is measured as its library is ("repacking": Q8_0 and Q4_0 weights are copied
into the order of this CPU's instructions at every start) and with weights used as they lie in the mapped
file ("mmap"; slower afterwards). --cold drops the files from the system's memory before every start.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

PEER = """
import sys, time
import llama_cpp as lib
model_path, threads, repack = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "repacking"
begin = time.perf_counter()
lib.llama_backend_init()
silence = lib.llama_log_callback(lambda *_: None)
lib.llama_log_set(silence, None)
params = lib.llama_model_default_params()
params.use_extra_bufts = repack
model = lib.llama_model_load_from_file(model_path.encode(), params)
context_params = lib.llama_context_default_params()
context_params.n_ctx = 128
context_params.n_threads = context_params.n_threads_batch = threads
context = lib.llama_init_from_model(model, context_params)
batch = lib.llama_batch_init(3, 0, 1)
batch.n_tokens = 3
for i in range(3):
    batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = i + 1, i, 1, 0, i == 2
if lib.llama_decode(context, batch) != 0:
    sys.exit("llama_decode failed")
logits = lib.llama_get_logits_ith(context, 2)
logits[0]
print(time.perf_counter() - begin)
"""


def drop(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def ours(args, cache):
    command = [args.program, "generate", "--model", args.model, "--prompt-ids", "1,2,3", "--max-generated-tokens",
               "1", "--threads", str(args.threads), "--weights-cache", cache]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(done.stderr)
    if cache != "off" and "mapped" not in done.stderr and "wrote" not in done.stderr:
        sys.exit(f"no cache: {done.stderr}")
    return seconds


def peer(args, how):
    done = subprocess.run([args.llama, "-c", PEER, args.model, str(args.threads), how], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr[-2000:])
    return float(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--llama", default="", help="a Python with llama-cpp-python")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()

    # Beside the model: a folder of temporary files may be memory.
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(args.model))) as cache:
        ways = {"ours, no cache": lambda: ours(args, "off"), "ours, cache": lambda: ours(args, cache)}
        if args.llama:
            ways["llama.cpp, repacking"] = lambda: peer(args, "repacking")
            ways["llama.cpp, mmap"] = lambda: peer(args, "mmap")
        print(f"the start that writes the cache: {ours(args, cache):.2f} s")
        if not args.cold:
            for way in ways.values():
                way()
        times = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                if args.cold:
                    for path in [args.model] + [os.path.join(cache, name) for name in os.listdir(cache)]:
                        drop(path)
                times[name].append(way())
        print(f"{args.rounds} rounds, {args.threads} threads, {'cold' if args.cold else 'warm'}, load "
              f"{os.getloadavg()[0]:.1f}; seconds, and times as long as ours with the cache")
        for name, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds, times["ours, cache"])]
            print(f"{name:22} median {statistics.median(seconds):6.2f}  least {min(seconds):6.2f}  most "
                  f"{max(seconds):6.2f}   ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to "
                  f"{max(ratios):.2f})")


main()
