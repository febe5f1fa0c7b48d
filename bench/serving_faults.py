#!/usr/bin/env python3
"""What serving costs, and what it keeps when clients misbehave: one figure per sub-command.

    bench/serving_faults.py MODEL.gguf streams       tokens/s of 32 streams over HTTP beside the engine's own steps
    bench/serving_faults.py MODEL.gguf disconnects   500 clients that hang up in 10 s: gauges and KV pages afterwards
    bench/serving_faults.py MODEL.gguf soak          2,000 short requests: growth of the server's own memory
    bench/serving_faults.py MODEL.gguf long-prompt   a long prompt among 8 running streams: their inter-token latency

Each starts a server of its own (--serve-args "..." are more options for it) and ends with status 1 where the goal is
missed. `long-prompt` scales the model's rope for the length (--rope-scaling).
"""
import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import shlex
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import serving

CHUNK = 512  # --prefill-chunk
GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")


def percentile(values, percent):
    """By linear interpolation, as bench-serve does it."""
    values = sorted(values)
    place = percent / 100 * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


@contextlib.contextmanager
def server(args, *options):
    names = argparse.Namespace(program=args.program, model=args.model, threads=args.threads, context=0, start_s=120.0)
    started = serving.Server(names, " ".join((serving.OURS, args.serve_args, *options)))
    try:
        yield started
    finally:
        started.close()


def gauges(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url + "/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {name: float(re.search(rf"^{re.escape(name)}\S* (\S+)$", text, re.M).group(1)) for name in GAUGES}


def bench_serve(args, url, *options):
    """The JSON of a run without a failure."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "load.json")
        done = subprocess.run([args.program, "bench-serve", "--base-url", url, "--ignore-eos", "--output", output,
                               *map(str, options)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"serving_faults.py: {done.stderr.strip()}")
        with open(output, encoding="utf-8") as file:
            result = json.load(file)
    if result["failed"]:
        sys.exit(f"serving_faults.py: {result['failed']} requests failed: {next(filter(None, result['errors']))}")
    return result


def bench(args, work, *options):
    """Seconds of each step of `llama-tg bench --measure`."""
    lines = subprocess.run([args.program, "bench", "--model", args.model, "--threads", str(args.threads), "--measure",
                            work, *options], capture_output=True, text=True, check=True).stdout.splitlines()
    return json.loads(lines[1])["step_s"]


async def stream(url, body):
    """Yields (seconds, event) of each event of a completion that has text."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    try:
        data = json.dumps(body | {"stream": True}).encode()
        writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                     f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        status = (await reader.readline()).split()[1]
        if status != b"200":
            raise RuntimeError(f"HTTP {status.decode()}: {(await reader.read()).decode()[-300:]}")
        while line := await reader.readline():
            # The server writes an event as one piece, so the lines of the chunked coding stand between them.
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            if any(choice["text"] for choice in event["choices"]):
                yield time.monotonic(), event
    finally:
        writer.close()


def random_ids(seed, count):
    source = random.Random(seed)
    return [source.randrange(1000, 30000) for _ in range(count)]


def http_rate(result):
    """Tokens/s of all streams while all of them run, from the first token of the last to the last one of the first."""
    times = []
    for sent, ttft, gaps in zip(result["start_times"], result["ttfts"], result["itls"]):
        times.append([sent + ttft])
        for gap in gaps:
            times[-1].append(times[-1][-1] + gap)
    begin, end = max(t[0] for t in times), min(t[-1] for t in times)
    # An event without text is a token too: half of a letter, or the beginning of a stop text.
    tokens = sum(sum(begin < at <= end for at in t) * count / len(t)
                 for t, count in zip(times, result["output_lens"]))
    return tokens / (end - begin)


def streams(args):
    ratios = []
    with server(args) as served:
        for turn in range(args.rounds):
            result = bench_serve(args, served.url, "--num-prompts", args.clients, "--input-len", 16, "--output-len",
                                 args.output_len, "--seed", turn)
            steps = bench(args, f"decode:{args.clients}:{16 + args.output_len // 2}:{args.steps}")
            http, own = http_rate(result), args.clients * len(steps) / sum(steps)
            ratios.append(http / own)
            print(f"round {turn + 1}: {args.clients} streams over HTTP {http:.1f} tokens/s, the engine's steps {own:.1f}, "
                  f"ratio {ratios[-1]:.3f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), goal 0.95")
    return ratio >= 0.95


async def hang_up(url, number, counts):
    """One client: leaves while it waits, or in the middle of its answer, in good order or with a reset."""
    host, port = url.removeprefix("http://").split(":")
    source = random.Random(number)
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps({"prompt": random_ids(number, 64), "max_tokens": 500, "ignore_eos": True, "stream": True}).encode()
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    got = b""
    deadline = time.monotonic() + source.uniform(0.0, 2.0)
    with contextlib.suppress(asyncio.TimeoutError):
        while more := await asyncio.wait_for(reader.read(65536), max(0.0, deadline - time.monotonic())):
            got += more
    status = got.split()[1].decode() if got else "none"
    counts[status, "text" if b"data: " in got else "no text"] = counts.get(
        (status, "text" if b"data: " in got else "no text"), 0) + 1
    if number % 2:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def disconnects(args):
    async def all_clients(url):
        counts, tasks = {}, []
        begin = time.monotonic()
        for number in range(args.count):
            await asyncio.sleep(max(0.0, begin + number * args.within_s / args.count - time.monotonic()))
            tasks.append(asyncio.create_task(hang_up(url, number, counts)))
        await asyncio.gather(*tasks)
        return counts

    with server(args) as served:
        before = gauges(served.url)
        counts = asyncio.run(all_clients(served.url))
        gone = time.monotonic()
        while any((now := gauges(served.url)).values()) and time.monotonic() < gone + 30:
            time.sleep(0.05)
        seconds = time.monotonic() - gone
        print(f"{args.count} clients hung up in {args.within_s:g} s: "
              + ", ".join(f"{count} with status {status}, {text}" for (status, text), count in sorted(counts.items())))
        print(f"before {before}\nafter {seconds:.2f} s {now}", flush=True)
        bench_serve(args, served.url, "--num-prompts", 32, "--input-len", 16, "--output-len", 8)  # it still answers
        after = gauges(served.url)
        print(f"and after 32 more answers {after}")
    return not any(now.values()) and not any(after.values())


def own_memory(pid):
    """KiB of RssAnon and VmSwap: not files, which come and go with the page cache."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return sum(int(kib) for kib in re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", file.read(), re.M))


def soak(args):
    with server(args) as served:
        sizes = [own_memory(served.process.pid)]
        load = ("--max-concurrency", 32, "--input-len", 16, "--output-len", 8)
        bench_serve(args, served.url, "--num-prompts", args.warmup, "--seed", 1, *load)
        sizes.append(own_memory(served.process.pid))
        parts = 4
        for part in range(parts):
            bench_serve(args, served.url, "--num-prompts", args.count // parts, "--seed", 2 + part, *load)
            sizes.append(own_memory(served.process.pid))
        print("RssAnon + VmSwap in MiB: ready {:.1f}, after {} requests {:.1f}, then after each {}: {}".format(
            sizes[0] / 1024, args.warmup, sizes[1] / 1024, args.count // parts,
            ", ".join(f"{size / 1024:.1f}" for size in sizes[2:])))
    grown = (sizes[-1] - sizes[1]) / 1024
    print(f"{args.count} requests: {grown:+.1f} MiB, goal below 32 ({(sizes[-1] - sizes[0]) / 1024:+.1f} from the start)")
    return grown < 32


def long_prompt(args):
    async def one(url, seed, gaps, started):
        last = None
        body = {"prompt": random_ids(seed, 64), "max_tokens": 8000, "ignore_eos": True, "temperature": 0}
        async for at, _ in stream(url, body):
            if last is not None:
                gaps.append((at, at - last))
            last = at
            started.set()

    async def arrival(url):
        async for at, _ in stream(url, {"prompt": random_ids(999, args.prompt_len), "max_tokens": 1, "temperature": 0}):
            return at
        return time.monotonic()

    async def all_streams(url):
        gaps, started = [], [asyncio.Event() for _ in range(8)]
        tasks = [asyncio.create_task(one(url, seed, gaps, event)) for seed, event in enumerate(started)]
        await asyncio.gather(*(event.wait() for event in started))
        calm = time.monotonic()
        await asyncio.sleep(args.calm_s)
        sent = time.monotonic()
        try:
            first = await asyncio.wait_for(arrival(url), args.most_s)
        except asyncio.TimeoutError:
            first = None
        end = first or time.monotonic()
        await asyncio.sleep(1.0)  # the gap that the last step made
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if not isinstance(result, asyncio.CancelledError):
                sys.exit(f"serving_faults.py: a stream ended early: {result}")
        before = [gap for at, gap in gaps if calm < at - gap and at <= sent]
        during = [(at, gap) for at, gap in gaps if sent < at and at - gap < end]
        return before, during, sent, end, first is not None

    scaling = ("--rope-scaling", args.rope_scaling)
    # Attention makes a chunk dearer the further back it has to look: p99 belongs to the last ones.
    steps = bench(args, f"prefill:{args.prompt_len}", *scaling)
    steps = steps[:args.prompt_len // CHUNK]
    with server(args, *scaling) as served:
        before, during, sent, end, complete = asyncio.run(all_streams(served.url))
    gaps = [gap for _, gap in during]
    full, late = percentile(steps, 99), percentile(gaps, 99)
    print(f"8 streams, ITL p50 and p99 in ms: before {1e3 * percentile(before, 50):.1f} and {1e3 * percentile(before, 99):.1f} "
          f"({len(before)} gaps); while a prompt of {args.prompt_len} tokens is computed "
          f"{1e3 * percentile(gaps, 50):.1f} and {1e3 * late:.1f} ({len(gaps)} gaps in {end - sent:.1f} s"
          f"{'' if complete else ', then cut off'})")
    print(f"the same prompt alone in the engine, steps of {CHUNK} tokens: {1e3 * steps[0]:.1f} ms the first, p99 "
          f"{1e3 * full:.1f}; ITL p99 is {late / full:.2f} x that, goal 2")
    return complete and late <= 2 * full


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--program", default="./llama-tg")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve-args", default="")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run):
        one = commands.add_parser(name)
        one.set_defaults(run=run)
        return one

    one = command("streams", streams)
    one.add_argument("--clients", type=int, default=32)
    one.add_argument("--output-len", type=int, default=128)
    one.add_argument("--steps", type=int, default=60)
    one.add_argument("--rounds", type=int, default=3)
    one = command("disconnects", disconnects)
    one.add_argument("--count", type=int, default=500)
    one.add_argument("--within-s", type=float, default=10.0)
    one = command("soak", soak)
    one.add_argument("--count", type=int, default=2000)
    one.add_argument("--warmup", type=int, default=64)
    one = command("long-prompt", long_prompt)
    one.add_argument("--prompt-len", type=int, default=32000)
    one.add_argument("--rope-scaling", default="linear:5", help="gives SmolLM2 a context of 40960")
    one.add_argument("--calm-s", type=float, default=15.0, help="before the prompt arrives")
    one.add_argument("--most-s", type=float, default=280.0, help="for the prompt; then what there is counts")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {args.threads} threads, {shlex.join(sys.argv[1:])}", flush=True)
    sys.exit(0 if args.run(args) else 1)


if __name__ == "__main__":
    main()
