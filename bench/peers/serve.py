"""What the peers' processes have in common: measurements are asked for on stdin, one a line, in the words of
`llama-tg bench` (decode:USERS:CONTEXT:STEPS, prefill:TOKENS), and answered as one line of JSON on stdout.
"""
import json
import os
import random
import sys

WARM_UP = 3  # decode steps before the timed ones, as in llama-tg bench


def silence_stdout():
    """Libraries print what they like: their stdout becomes stderr, the answers keep the real one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def random_ids(seed, count, vocab):
    # Below the special tokens of Llama's vocabulary, which some tokenizers treat in their own way.
    generator = random.Random(seed)
    return [generator.randrange(0, min(vocab, 128000) - 1) for _ in range(count)]


def serve(answers, about, decode, prefill):
    """decode(users, context, steps) gives the seconds of each step, prefill(tokens) its seconds."""
    def say(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    say(about)
    for line in sys.stdin:
        words = line.strip().split(":")
        if words[0] == "decode":
            users, context, steps = map(int, words[1:])
            seconds = decode(users, context, steps)
            tokens = users * steps
        else:
            tokens = int(words[1])
            seconds = [prefill(tokens)]
        say({"work": line.strip(), "tokens": tokens, "seconds": sum(seconds),
             "tokens_per_s": tokens / sum(seconds), "step_s": seconds})
