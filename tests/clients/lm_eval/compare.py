#!/usr/bin/env python3
"""Compares what lm-evaluation-harness wrote of two runs of the same task: scores and log-likelihoods.

    compare.py NAME FOLDER THEIRS_FOLDER [--score 0.001] [--loglikelihood 0.02]

Prints one line; exit status 1 when a difference is larger than was allowed."""
import argparse
import glob
import json
import statistics
import sys


def read_run(folder):
    (path,) = glob.glob(folder + "/**/samples_tg_facts_*.jsonl", recursive=True)
    with open(path) as lines:
        samples = {sample["doc_id"]: sample for sample in map(json.loads, lines)}
    (path,) = glob.glob(folder + "/**/results_*.json", recursive=True)
    with open(path) as file:
        results = json.load(file)["results"]["tg_facts"]
    return samples, {name: results[name + ",none"] for name in ("acc", "acc_norm")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--score", type=float, default=float("inf"))
    parser.add_argument("--loglikelihood", type=float, default=float("inf"))
    options = parser.parse_args()
    ours, our_scores = read_run(options.ours)
    theirs, their_scores = read_run(options.theirs)
    assert len(ours) == 200 and ours.keys() == theirs.keys(), (len(ours), len(theirs))
    differences, greedy = [], 0
    for number, sample in ours.items():
        other = theirs[number]
        assert sample["doc"] == other["doc"] and sample["arguments"] == other["arguments"], number
        for mine, its in zip(sample["filtered_resps"], other["filtered_resps"], strict=True):
            differences.append(abs(float(mine[0]) - float(its[0])))
            greedy += str(mine[1]) != str(its[1])
    score = max(abs(our_scores[name] - their_scores[name]) for name in our_scores)
    print(f"{options.name}: acc {our_scores['acc']:.4f} (transformers {their_scores['acc']:.4f}), "
          f"acc_norm {our_scores['acc_norm']:.4f} ({their_scores['acc_norm']:.4f}); log-likelihoods of "
          f"{len(differences)} answers differ by {max(differences):.5f} at most, {statistics.median(differences):.5f} "
          f"in the median; {greedy} differ in whether they are the greedy ones")
    if score > options.score or max(differences) > options.loglikelihood:
        sys.exit(f"{options.name}: more than {options.score} in the score or {options.loglikelihood} in a "
                 "log-likelihood")


if __name__ == "__main__":
    main()
