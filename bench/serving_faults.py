#!/usr/bin/env python3
"""What serving costs, and what it keeps when clients misbehave: one figure per sub-command.

    bench/serving_faults.py MODEL.gguf streams       tokens/s of 32 streams over HTTP beside the engine's own steps
    bench/serving_faults.py MODEL.gguf long-prompt   a long prompt among 8 running streams: their inter-token latency
    bench/serving_faults.py MODEL.gguf disconnects   500 clients that hang up in 10 s: gauges and KV pages afterwards
    bench/serving_faults.py MODEL.gguf soak          2,000 short requests: growth of the server's own memory
    bench/serving_faults.py MODEL.gguf idle          2,000 streams that wait: what the server needs for them
    bench/serving_faults.py MODEL.gguf killed        clients that end by kill -9 in the middle of their streams
    bench/serving_faults.py MODEL.gguf malformed     30 s of requests that a small fuzzer makes
    bench/serving_faults.py MODEL.gguf sigterm       SIGTERM among 96 answers: each ends, or is told why not
    bench/serving_faults.py MODEL.gguf full-log      an access log that takes no more for a while
    bench/serving_faults.py MODEL.gguf killed-rank   one of two ranks under mpirun ends by kill -9

Each starts a server of its own (--serve-args "..." are more options for it) and ends with status 1 where the goal is
missed. `long-prompt` scales the model's rope for the length (--rope-scaling).
"""
import argparse
import asyncio
import contextlib
import json
import os
import random
import shlex
import socket
import statistics
import struct
import sys
import time

import serving_hostile
from serving_tools import (ask, bench, bench_serve, descriptors, gauges, idle_gauges, own_memory, percentile, random_ids,
                           send_request, server, stream)

CHUNK = 512  # --prefill-chunk


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
    source = random.Random(number)
    reader, writer = await send_request(url, "/v1/completions", {"prompt": random_ids(number, 64), "max_tokens": 500,
                                                                 "ignore_eos": True, "stream": True})
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
        seconds, now = idle_gauges(served.url)
        print(f"{args.count} clients hung up in {args.within_s:g} s: "
              + ", ".join(f"{count} with status {status}, {text}" for (status, text), count in sorted(counts.items())))
        print(f"before {before}\nafter {seconds:.2f} s {now}", flush=True)
        bench_serve(args, served.url, "--num-prompts", 32, "--input-len", 16, "--output-len", 8)  # it still answers
        after = gauges(served.url)
        print(f"and after 32 more answers {after}")
    return not any(now.values()) and not any(after.values())


def soak(args):
    """Case C35: eight at a time, every text another one."""
    async def some(url, numbers):
        async def one(worker):
            for number in numbers[worker::8]:
                text = f"Request number {number}: tell me about item {number}."
                status, _ = await ask(url, {"prompt": text, "max_tokens": 32, "temperature": 0.7, "seed": 1, "logprobs": 5,
                                            "ignore_eos": True})
                if status != 200:
                    sys.exit(f"serving_faults.py: request {number}: status {status}")
        await asyncio.gather(*(one(worker) for worker in range(8)))

    with server(args) as served:
        pid = served.process.pid
        sizes, files = [own_memory(pid)], [descriptors(pid)]
        for first in range(0, args.count, 200):
            asyncio.run(some(served.url, range(first + 1, min(first + 200, args.count) + 1)))
            sizes.append(own_memory(pid))
            files.append(descriptors(pid))
    print("RssAnon + VmSwap in MiB: ready {:.1f}, then after each 200 requests {}".format(
        sizes[0] / 1024, ", ".join(f"{size / 1024:.1f}" for size in sizes[1:])))
    grown = (sizes[-1] - sizes[1]) / 1024
    print(f"from request 200 to {args.count}: {grown:+.1f} MiB, goal below 32; descriptors {files[1]} and {files[-1]}")
    return grown < 32 and files[-1] <= files[1]


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
    one = command("idle", serving_hostile.idle)
    one.add_argument("--count", type=int, default=2000)
    one = command("killed", serving_hostile.killed)
    one.add_argument("--clients", type=int, default=8)
    one.add_argument("--rounds", type=int, default=5)
    one = command("malformed", serving_hostile.malformed)
    one.add_argument("--seconds", type=float, default=30.0)
    one.add_argument("--seed", type=int, default=1)
    command("sigterm", serving_hostile.sigterm)
    command("full-log", serving_hostile.full_log)
    one = command("killed-rank", serving_hostile.killed_rank)
    one.add_argument("--ranks", type=int, default=2)
    one.add_argument("--mesh", default="1x2")
    one = command("long-prompt", long_prompt)
    one.add_argument("--prompt-len", type=int, default=32000)
    one.add_argument("--rope-scaling", default="linear:5", help="gives SmolLM2 a context of 40960")
    one.add_argument("--calm-s", type=float, default=15.0, help="before the prompt arrives")
    one.add_argument("--most-s", type=float, default=1800.0,
                     help="for the prompt (220 s with AVX-512, above 280 with AVX2 alone); one that takes longer is "
                          "cut off, which is a failure")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {args.threads} threads, {shlex.join(sys.argv[1:])}", flush=True)
    sys.exit(0 if args.run(args) else 1)


if __name__ == "__main__":
    main()
