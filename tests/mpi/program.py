"""The program under mpirun with 2, 4 and 8 ranks gives, to the last digit of every log-probability,
what it gives in one process; and what it refuses ends the whole job with one clear line.

  program.py PROGRAM MODEL
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1")
REFUSAL_TAKES_S = 15  # at most; a job that hangs takes for ever

# Seven users with prompts of 1 to about 600 tokens, so that prefill comes in chunks and users sit on
# all columns; half of them sampled.
PROMPTS = [{"prompt": text} for text in
           ("What is two plus two?", "Name a colour.", "a", "The river and the town. " * 60,
            "Colonies of mankind", "One, two, three, four, five, six. " * 12, "endless")]
SAMPLING = {"temperature": [0, 0.8, 0, 1.2, 0, 0.7, 1.0], "top_p": 0.95, "top_k": 40,
            "seed": [1, 2, 3, 4, 5, 6, 7], "frequency_penalty": [0, 0.5, 0, 0, 0, 0, 0],
            "log_probs": True}
IDS = ["--prompt-ids", "1,2,3", "--max-generated-tokens", "12", "--stop-at-eos", "0",
       "--logprobs", "5", "--seed", "7"]
DEMO = ["--batch-size", "7", "--instruct", "0", "--repeat-batches", "2",
        "--page-params", '{"page_block_size": 16, "page_max_num_blocks": 512}',
        "--max-seq-len", "1024"]
# A penalty below 1 is a reward: answers that repeat themselves can be guessed.
REPEATING = SAMPLING | {"repetition_penalty": 0.3}
RUNS = {
    "generate, greedy": ["generate", *IDS, "--temperature", "0"],
    "generate, sampled": ["generate", *IDS, "--temperature", "0.9", "--top-p", "0.95"],
    "text-demo": ["text-demo", *DEMO, "--max-generated-tokens", "8",
                  "--sampling-params", json.dumps(SAMPLING)],
    "text-demo, speculative": ["text-demo", *DEMO, "--max-generated-tokens", "24",
                               "--sampling-params", json.dumps(REPEATING),
                               "--speculative", "ngram", "--speculative-rows", "64"],
}


def answers(file):
    """What the file says but the times."""
    users = [user for batch in json.load(file)["batches"] for user in batch["users"]]
    for user in users:
        del user["ttft_s"], user["token_times_s"]
    return users


def text_of(stdout):
    """What a run prints up to the first line that a clock is in."""
    return stdout.split("=== Performance metrics ===")[0].strip()


def run(args, ranks, words):
    """(text on stdout, answers) of the program; ranks 0: without mpirun."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as output:
        launcher = ["mpirun", "-n", str(ranks)] if ranks else []
        done = subprocess.run([*launcher, args.program, *words, "--output", output.name],
                              capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        if done.returncode != 0:
            raise RuntimeError(f"status {done.returncode}: {done.stderr}")
        return text_of(done.stdout), answers(open(output.name, encoding="utf-8"))


def difference(together, alone):
    """The first thing that differs, in few words; None when nothing does."""
    if together == alone:
        return None
    if len(together[1]) != len(alone[1]):
        return f"{len(together[1])} users, not {len(alone[1])}"
    for u, (one, other) in enumerate(zip(together[1], alone[1])):
        for key in other:
            if one.get(key) != other[key]:
                return f"user {u}: {key} is {str(one.get(key))[:300]}, not {str(other[key])[:300]}"
    return f"stdout is {together[0]!r}, not {alone[0]!r}"


def check_equal(args):
    """How many runs were compared, how many of them differ from one process."""
    runs = failures = 0
    distinct = set()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as prompts:
        json.dump(PROMPTS, prompts)
        prompts.flush()
        for name, command in RUNS.items():
            for topology in ("ring", "line"):
                words = [*command, "--model", args.model, "--mesh", "8x4", "--topology", topology]
                if name.startswith("text-demo"):
                    words += ["--input-prompts", prompts.name]
                alone = run(args, 0, words)
                distinct.add(json.dumps(alone))
                if not alone[0] or not all(user["output_ids"] for user in alone[1]):
                    print(f"{name}, {topology}: FAILED: no answer from one process")
                    failures += 1
                if "speculative" in name and not any(
                        user.get("speculation", {"accepted": 0})["accepted"] for user in alone[1]):
                    print(f"{name}, {topology}: FAILED: no guess was right")
                    failures += 1
                for ranks in (2, 4, 8):
                    runs += 1
                    unlike = difference(run(args, ranks, words), alone)
                    if unlike:
                        print(f"{name}, {topology}, {ranks} ranks: FAILED: {unlike}")
                        failures += 1
    # The cases must be able to tell two runs apart, ring and line too.
    if len(distinct) != 2 * len(RUNS):
        print(f"FAILED: {2 * len(RUNS)} cases, but only {len(distinct)} different outcomes")
        failures += 1
    return runs, failures


def check_refusal(args, name, launch, parts):
    """A job that must not run: mpirun with `launch` ends in time, with a status that is not 0, and
    says all `parts` in a line. Several ranks may say so, but nothing else."""
    begin = time.monotonic()
    job = subprocess.Popen(["mpirun", *launch], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, env=ENVIRONMENT)
    try:
        out, errors = job.communicate(timeout=REFUSAL_TAKES_S)
    except subprocess.TimeoutExpired:
        job.terminate()  # mpirun ends its ranks
        print(f"{name}: FAILED: still runs after {REFUSAL_TAKES_S} s")
        return 1
    seconds = time.monotonic() - begin
    lines = [line for line in errors.splitlines() if line.startswith("llama-tg: ")]
    problems = [f"'{part}' is not in '{line}'" for line in lines for part in parts
                if part not in line]
    if not lines:
        problems.append("nothing is said")
    if job.returncode == 0:
        problems.append("exit status 0")
    if out:
        problems.append("something on stdout")
    if problems:
        print(f"{name}: FAILED: {', '.join(problems)}: {out}{errors}")
        return 1
    print(f"{name}: {seconds:.1f} s, status {job.returncode}: {lines[0]}")
    return 0


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


def check_refusals(args):
    generate = [args.program, "generate", "--prompt-ids", "1,2,3", "--model"]
    tiny = [*generate, args.model]
    mesh = ["--mesh", "8x4"]
    cases = [
        ("no such model", ["-n", "2", *generate, "nowhere", *mesh], ["--model nowhere", "no such file"]),
        ("no such model, 8 ranks", ["-n", "8", *generate, "nowhere", *mesh], ["--model nowhere"]),
        ("no such model on one rank only",
         ["-n", "1", *tiny, *mesh, ":", "-n", "1", *generate, "nowhere", *mesh],
         ["rank 1: --model nowhere", "no such file"]),
        ("another topology on one rank",
         ["-n", "1", "env", "LINE_RS=1", *tiny, *mesh, ":", "-n", "1", *tiny, *mesh],
         ["rank 1: the ranks differ", "topology of QKV.rs ring", "topology of QKV.rs line", "-x NAME"]),
        ("another payload on one rank",
         ["-n", "3", *tiny, *mesh, ":", "-n", "1", *tiny, *mesh, "--ccl-dtype", "bf16"],
         ["rank 3: the ranks differ", "ccl-dtype bf16", "ccl-dtype f32"]),
        ("another model on one rank",
         ["-n", "1", *tiny, *mesh, ":", "-n", "1", args.program, "decode-demo", "--weights", "random",
          "--arch", "tiny", "--batch-size", "1", "--max-generated-tokens", "4", *mesh],
         ["rank 1: the ranks differ"]),
        ("a command of one process", ["-n", "2", args.program, "inspect", "--model", args.model],
         ["inspect runs in one process, not in 2 ranks"]),
        ("3 ranks", ["-n", "3", *tiny, *mesh], ["3 ranks cannot share a mesh of 8x4"]),
        ("2 ranks, one device", ["-n", "2", *tiny, "--mesh", "1x1"],
         ["2 ranks cannot share a mesh of 1x1"]),
        ("2 ranks, no mesh", ["-n", "2", *tiny], ["2 ranks cannot share a mesh of 1x1"]),
        ("a draft model", ["-n", "2", *tiny, *mesh, "--speculative", "draft", "--draft-model", args.model],
         ["--speculative draft with 2 MPI ranks"]),
        ("more tokens than the model can", ["-n", "4", *tiny, *mesh, "--max-generated-tokens", "1000000"],
         ["1000000"]),
    ]
    # Three eighths of the memory that there is for each of four ranks: too much for one host. A page
    # takes 64 positions x 4096 bytes on each of 4 columns; 256 users can fill 131072.
    pages = int(1.5 * available_memory() / (64 * 4096 * 4))
    if pages < 131072:
        cases.append((
            "memory of all ranks",
            ["-n", "4", args.program, "text-demo", "--model", args.model, *mesh, "--prompt-ids", "1",
             "--batch-size", "256", "--compute-dtype", "f32", "--page-params",
             json.dumps({"page_block_size": 64, "page_max_num_blocks": pages})],
            ["the run needs", "on this host, 4 ranks of", f"{pages} pages x 64 positions x 4096 bytes "
             "on each of 4 columns", "available are"]))
    return sum(check_refusal(args, *case) for case in cases)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("model")
    args = parser.parse_args()
    args.program = os.path.realpath(args.program)
    for variable in ("MESH_DEVICE", "FAKE_DEVICE", "LINE_RS", "LINE_AG", "USE_LINE_AG"):
        ENVIRONMENT.pop(variable, None)
    runs, failures = check_equal(args)
    print(f"{runs} runs, {failures} of them unlike one process")
    failures += check_refusals(args)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
