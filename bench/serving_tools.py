"""What the benches of serving share: a server of one's own, its gauges and its memory, and clients."""
import argparse
import contextlib
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import serving

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


def own_memory(pid):
    """KiB of RssAnon and VmSwap: not files, which come and go with the page cache."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return sum(int(kib) for kib in re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", file.read(), re.M))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def idle_gauges(url, seconds=30.0):
    """(seconds it took, gauges): until nobody is in the engine and no page is held."""
    begin = time.monotonic()
    while any((now := gauges(url)).values()) and time.monotonic() < begin + seconds:
        time.sleep(0.05)
    return time.monotonic() - begin, now


async def send_request(url, path, body):
    """A connection on which a request has been sent: (reader, writer)."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                 f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


async def ask(url, body, path="/v1/completions"):
    """(status, the answer's head and body as they came); status 0: nothing came."""
    reader, writer = await send_request(url, path, body)
    try:
        answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer
