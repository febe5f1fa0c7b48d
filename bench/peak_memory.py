#!/usr/bin/env python3
"""Peak memory of a run beside what it has to hold: packed weights and KV pages.

    bench/peak_memory.py MODEL.gguf... [--program ./llama-tg] [--weights-dtype bf16,int8,int4] [--users 32]
                         [--context 1024] [--threads 2]

Each run loads the file, decodes for so many users at that context and computes a prompt as long
(`llama-tg bench`). The peak is the process's largest resident size, pages of mapped files included.
"""
import argparse
import json
import os
import re
import subprocess
import sys

# A weight as it is held; what is not here is held as bf16.
BYTES = {"Q8_0": 34 / 32, "Q4_0": 18 / 32, "int8": 34 / 32, "int4": 18 / 32}
MIB = 1 << 20


def sizes(args, path, dtype):
    """Bytes of packed weights, and of KV per position."""
    text = subprocess.run([args.program, "inspect", "--model", path, "--tensors"], check=True, capture_output=True,
                          text=True).stdout
    weights = 0.0
    for stored, shape in re.findall(r"^(\S+) +\[([\d, ]+)\] \S+$", text, re.M):
        count = 1
        for n in shape.split(","):
            count *= int(n)
        form = dtype if "," in shape and dtype != "stored" else stored
        weights += count * (BYTES.get(form, 2.0) if "," in shape else 4.0)  # norms are f32
    return weights, int(re.search(r"^KV cache .* x (\d+) bytes", text, re.M).group(1))


def run(args, path, dtype):
    """Peak bytes of the process, and the bench's first line."""
    command = [args.program, "bench", "--model", path, "--threads", str(args.threads), "--weights-dtype", dtype,
               "--measure", f"decode:{args.users}:{args.context}:2,prefill:{args.context}", "--weights-cache", "off"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = process.stdout.readlines()[:1]
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"peak_memory.py: status {os.waitstatus_to_exitcode(status)} from {' '.join(command)}")
    return usage.ru_maxrss * 1024, json.loads(first[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--weights-dtype", default="stored", help="several: separated by commas")
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for path in args.models:
        for dtype in args.weights_dtype.split(","):
            weights, position = sizes(args, path, dtype)
            peak, about = run(args, path, dtype)
            kv = about["page_block_size"] * about["page_max_num_blocks"] * position
            print(f"{path}, weights {dtype}: peak {peak / MIB:.0f} MiB = weights {weights / MIB:.0f} + KV {kv / MIB:.0f}"
                  f" + {(peak - weights - kv) / MIB:.0f}", flush=True)


main()
