#!/usr/bin/env python3
"""Perplexity of a text in parts, in several forms of a model, as a ratio to the first form with its standard error:
one text says less than its length suggests, its parts show how much is chance.

    bench/quality.py TEXT [--parts 18] [--program ./llama-tg] -- FORM FORM...

A form is a model file and options of `llama-tg perplexity`, in one word: 'm.gguf --weights-dtype int8'. Parts have
equally many characters, and each is one window.
"""
import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile


def score(args, form, part, folder):
    """Sum of negative logarithms and tokens scored."""
    path = os.path.join(folder, "part.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(part)
    model, *options = shlex.split(form)
    run = subprocess.run([args.program, "perplexity", "--model", model, "--threads", str(args.threads), "--window",
                          str(args.window), *options, path], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"quality.py: {form}: {run.stderr.strip()}")
    line = json.loads(run.stdout)
    if line["scored"] != line["tokens"] - 1:
        sys.exit(f"quality.py: a part has {line['tokens']} tokens, more than --window {args.window}: ask for more --parts")
    return line["mean_negative_log"], line["scored"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("forms", nargs="+", metavar="FORM")
    parser.add_argument("--parts", type=int, default=18)
    parser.add_argument("--window", type=int, default=4096, help="tokens of a part, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", default="./llama-tg")
    args = parser.parse_args()
    with open(args.text, encoding="utf-8") as file:
        text = file.read()
    length = len(text) // max(args.parts, 1)
    if args.parts < 2 or length == 0 or len(args.forms) < 2:
        parser.error("a standard error needs two parts with text, and a ratio two forms")
    parts = [text[i * length:(i + 1) * length] for i in range(args.parts)]
    with tempfile.TemporaryDirectory() as folder:
        scores = [[score(args, form, part, folder) for part in parts] for form in args.forms]
    tokens = sum(count for _, count in scores[0])
    for form, of_form in zip(args.forms, scores):
        perplexity = math.exp(sum(mean * count for mean, count in of_form) / tokens)
        logs = [mine - first for (mine, _), (first, _) in zip(of_form, scores[0])]
        mean = sum(logs) / len(logs)
        error = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1) / len(logs))
        print(f"{perplexity:8.3f} over {tokens} tokens, {math.exp(mean):.4f} of the first, standard error {error:.4f}, "
              f"parts {math.exp(min(logs)):.4f} to {math.exp(max(logs)):.4f}: {form}", flush=True)


if __name__ == "__main__":
    main()
