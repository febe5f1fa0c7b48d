#!/usr/bin/env python3
"""Speculative decoding beside plain decoding: the same prompts, one user at a time, taking turns.

    bench/speculation.py PROGRAM MODEL PROMPTS.json [--rounds N] [--threads N] [-- OPTIONS...]

OPTIONS go to the speculative runs; the default is --speculative ngram. Prints per prompt the median
over the rounds of the ratio of decode tokens/s, and ends with status 1 if a token differs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile


def run(args, entry, options):
    """The answer to one prompt, and its decode tokens/s."""
    with tempfile.TemporaryDirectory() as folder:
        prompt = os.path.join(folder, "prompt.json")
        with open(prompt, "w", encoding="utf-8") as file:
            json.dump([entry], file)
        output = os.path.join(folder, "answers.json")
        command = [args.program, "text-demo", "--model", args.model, "--input-prompts", prompt]
        command += ["--batch-size", "1", "--stop-at-eos", "1", "--max-seq-len", "2048"]
        command += ["--max-generated-tokens", str(args.tokens), "--threads", str(args.threads)]
        command += ["--sampling-params", '{"temperature": 0}', "--output", output] + options
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(done.stderr.strip())
        with open(output, encoding="utf-8") as file:
            batch = json.load(file)["batches"][0]
        return batch["users"][0] | {"rate": batch["decode_tokens_per_s"]}


def main():
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tokens", type=int, default=250)
    args = parser.parse_args(sys.argv[1:split])
    options = sys.argv[split + 1 :] or ["--speculative", "ngram"]
    with open(args.prompts, encoding="utf-8") as file:
        entries = json.load(file)

    pairs = [[] for _ in entries]
    for turn in range(args.rounds):
        for pair, entry in zip(pairs, entries):
            # One right after the other, in changing order: the machine's speed moves in seconds.
            first = run(args, entry, options if turn % 2 else [])
            second = run(args, entry, [] if turn % 2 else options)
            pair.append((second, first) if turn % 2 else (first, second))

    same = True
    print(f"load {os.getloadavg()[0]:.1f}, {args.threads} threads, {args.rounds} rounds, {' '.join(options)}")
    for entry, pair in zip(entries, pairs):
        ratios = sorted(b["rate"] / a["rate"] for a, b in pair)
        a, b = pair[0]
        counts = b.get("speculation", {"accepted": 0, "proposed": 0})
        equal = all(x["output_ids"] == y["output_ids"] for x, y in pair)
        same = same and equal
        print(
            f"{statistics.median(ratios):5.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
            f"{statistics.median(x['rate'] for x, _ in pair):6.1f} -> "
            f"{statistics.median(y['rate'] for _, y in pair):6.1f} tok/s, "
            f"{len(a['output_ids'])} tokens, {counts['accepted']} of {counts['proposed']} accepted, "
            f"{'identical' if equal else 'DIFFERENT TOKENS'}: {entry['prompt'][:60]}"
        )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
