#!/usr/bin/env python3
"""Two servers side by side on the same file, thread count and load: Llama3 TG and llama-cpp-python's.

    bench/serving.py MODEL.gguf [--threads 2] [--clients 1,8,32] [--rounds 3] [--per-client 2]
                     [--input-len 128] [--output-len 128] [--ours COMMAND] [--peer COMMAND]
                     [--served-model NAME] [--output FILE.json]

A round starts one server, sends the load of every number of clients with `llama-tg bench-serve`, ends it,
and does the same with the other; who is first changes from round to round. In a COMMAND {model}, {threads},
{context} and {port} stand for their values; one without {port} prints "Listening on URL". Printed are medians
over the rounds and the median of the rounds' ratios, so turned that more than 1 is better for the first.

The peer's environment: python3 -m venv .venv-bench-llama-server; in it
pip install 'llama-cpp-python[server]'. It computes one request at a time, and would break off the one that
runs for the next one that comes, were it not for --interrupt_requests.
"""
import argparse
import json
import os
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

OURS = "{program} serve --model {model} --port 0 --threads {threads}"
PEER = (".venv-bench-llama-server/bin/python -m llama_cpp.server --model {model} --host 127.0.0.1 --port {port} "
        "--n_threads {threads} --n_threads_batch {threads} --n_ctx {context} --interrupt_requests false")
# Name, key in the JSON, whether more is better.
METRICS = (("TTFT p50 ms", "p50_ttft_ms", False), ("TTFT p99 ms", "p99_ttft_ms", False),
           ("ITL p99 ms", "p99_itl_ms", False), ("total tokens/s", "total_tokens_per_s", True))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url):
    # No proxy of the environment: it has another 127.0.0.1.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url + "/v1/models", timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Server:
    """A server's process, from its start until it answers to its end."""

    def __init__(self, args, command):
        port = free_port()
        words = shlex.split(command.format(program=args.program, model=args.model, threads=args.threads,
                                           context=args.context, port=port))
        self.url = f"http://127.0.0.1:{port}" if "{port}" in command else None
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # not a pipe: nobody would empty it
        try:
            self.process = subprocess.Popen(words, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as failure:
            sys.exit(f"serving.py: {words[0]}: {failure.strerror}")
        deadline = time.monotonic() + args.start_s
        while not (self.find_url() and answers(self.url)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                status = self.process.poll()
                said = self.text()[-1000:].strip()
                self.close()
                sys.exit(f"serving.py: {shlex.join(words)}: "
                         + (f"status {status}" if status is not None else f"no answer after {args.start_s} s")
                         + f": {said}")
            time.sleep(0.05)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def find_url(self):
        if self.url is None:
            found = re.search(r"^Listening on (http\S+)", self.text(), re.M)
            self.url = found and found.group(1)
        return self.url

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()


def measure(args, url, clients, seed):
    """One bench-serve run; its JSON with the number of tokens per second that both servers are held to."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "load.json")
        # The end token is kept away with both names that servers have for it; words, as not every server
        # takes token ids.
        command = [args.program, "bench-serve", "--base-url", url, "--words", "--ignore-eos", "--output", output,
                   "--num-prompts", str(clients * args.per_client), "--max-concurrency", str(clients),
                   "--input-len", str(args.input_len), "--output-len", str(args.output_len),
                   "--extra-body", json.dumps({"min_tokens": args.output_len}), "--warmup", "1", "--seed", str(seed),
                   "--percentiles", "50,99"] + (["--model", args.served_model] if args.served_model else [])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"serving.py: {url}: {done.stderr.strip()}")
        with open(output, encoding="utf-8") as file:
            result = json.load(file)
    if result["failed"]:
        reason = next(text for text in result["errors"] if text)
        sys.exit(f"serving.py: {url}: {result['failed']} of {result['num_prompts']} requests failed: {reason}")
    short = sum(1 for count in result["output_lens"] if abs(count - args.output_len) > 0.05 * args.output_len)
    if short:
        print(f"  {short} of {result['num_prompts']} answers of {url} are not {args.output_len} tokens long "
              f"({min(result['output_lens'])} to {max(result['output_lens'])})", flush=True)
    # The load is the same, whether a server reports usage or only sends chunks to count.
    tokens = result["completed"] * (args.input_len + args.output_len)
    result["total_tokens_per_s"] = tokens / result["duration"]
    return result


def run_round(args, turn):
    """{side: {clients: result}}"""
    sides = [("ours", args.ours), ("peer", args.peer)]
    results = {}
    for side, command in sides if turn % 2 == 0 else sides[::-1]:
        server = Server(args, command)
        try:
            results[side] = {n: measure(args, server.url, n, 1000 * turn + n) for n in args.clients}
        finally:
            server.close()
        print(f"round {turn + 1}, {side}: " + ", ".join(
            f"{n} clients {results[side][n]['total_tokens_per_s']:.1f} tokens/s" for n in args.clients), flush=True)
    return results


def read_rounds(path):
    """Those of an earlier run with the same options: a shared machine may not be free for all of them at once."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [{side: {int(n): result for n, result in results.items()} for side, results in turn.items()}
                for turn in json.load(file)]


def print_ratios(args, rounds):
    print(f"{'':26}{'ours':>10}{'peer':>10}{'ratio':>8}   lowest and highest")
    for clients in args.clients:
        for name, key, more_is_better in METRICS:
            pairs = [(r["ours"][clients][key], r["peer"][clients][key]) for r in rounds]
            if any(value is None for pair in pairs for value in pair):
                print(f"{clients:3} clients {name:15} no value")
                continue
            ratios = sorted(a / b if more_is_better else b / a for a, b in pairs)
            ours, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            print(f"{clients:3} clients {name:15}{ours:10.2f}{peer:10.2f}{statistics.median(ratios):8.2f}"
                  f"   {ratios[0]:.2f} to {ratios[-1]:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clients", default="1,8,32", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-client", type=int, default=2, help="requests of each client and round")
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--start-s", type=float, default=300.0)
    parser.add_argument("--ours", default=OURS)
    parser.add_argument("--peer", default=PEER)
    parser.add_argument("--served-model", help="default: the first in /v1/models")
    parser.add_argument("--output", help="JSON file of all rounds; those that are in it already count too")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {args.threads} threads, {args.input_len} in / {args.output_len} out, "
          f"{args.per_client} requests per client, {args.rounds} rounds, {args.model}", flush=True)
    rounds = read_rounds(args.output) if args.output else []
    for turn in range(len(rounds), len(rounds) + args.rounds):
        rounds.append(run_round(args, turn))
        if args.output:
            with open(args.output, "w", encoding="utf-8") as file:
                json.dump(rounds, file)
    print_ratios(args, rounds)


if __name__ == "__main__":
    sys.exit(main())
