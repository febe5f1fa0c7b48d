"""Commands of serving_faults.py: clients that lie, die or never end, a server that has to end, a log that is full."""
import asyncio
import collections
import contextlib
import copy
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from serving_tools import (ask, bench_serve, descriptors, gauges, idle_gauges, own_memory, random_ids, send_request,
                           server)

KNOWN = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


def text_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["text"]


def known_text(url):
    """What a healthy server answers, whatever has happened before."""
    return text_of(asyncio.run(ask(url, KNOWN))[1])


# ---- idle: streams that are open and have nothing to say

def idle(args):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, args.count + 256)), hard))

    async def all_streams(url, pid):
        body = {"prompt": random_ids(1, 16), "max_tokens": 1500, "ignore_eos": True, "stream": True}
        clients = []
        for number in range(args.count):
            clients.append(await send_request(url, COMPLETIONS, body | {"seed": number}))
            if number % 100 == 99:
                await asyncio.sleep(0.05)
        heads = [await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60) for reader, _ in clients]
        size = own_memory(pid)
        now = gauges(url)
        for _, writer in clients:
            writer.transport.abort()
        return sum(head.startswith(b"HTTP/1.1 200 ") for head in heads), size, now

    with server(args, f"--max-waiting {args.count}") as served:
        bench_serve(args, served.url, "--num-prompts", 64, "--max-concurrency", 32, "--input-len", 16, "--output-len", 8)
        before, files = own_memory(served.process.pid), descriptors(served.process.pid)
        opened, size, now = asyncio.run(all_streams(served.url, served.process.pid))
        seconds, after = idle_gauges(served.url)
        grown = (size - before) / 1024
        print(f"{opened} of {args.count} streams open, {now['vllm:num_requests_running']:.0f} running and "
              f"{now['vllm:num_requests_waiting']:.0f} waiting: {grown:+.1f} MiB of {before / 1024:.1f}, goal below 60")
        print(f"all hung up: after {seconds:.2f} s {after}, {descriptors(served.process.pid)} descriptors ({files} before)")
    return opened == args.count and grown < 60 and not any(after.values())


# ---- killed: client processes that end by kill -9 in the middle of their streams

CLIENT = """
import json, socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
body = json.dumps({"prompt": "Hello", "max_tokens": 1500, "ignore_eos": True, "stream": True}).encode()
clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
for client in clients:
    client.sendall(b"POST /v1/completions HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
clients[0].recv(1)
print("running", flush=True)
while True:
    for client in clients[::2]:  # the others' answers pile up
        client.recv(65536)
"""


def killed(args):
    with server(args) as served:
        expected = known_text(served.url)
        port = served.url.rsplit(":", 1)[1]
        worst, same = 0.0, True
        for turn in range(args.rounds):
            clients = [subprocess.Popen([sys.executable, "-c", CLIENT, port, "8"], stdout=subprocess.PIPE)
                       for _ in range(args.clients)]
            for client in clients:
                client.stdout.readline()
            time.sleep(0.2)
            busy = gauges(served.url)
            for client in clients:
                client.kill()
            seconds, now = idle_gauges(served.url)
            for client in clients:
                client.wait()
                client.stdout.close()
            worst = max(worst, seconds)
            same = same and known_text(served.url) == expected
            print(f"round {turn + 1}: {args.clients} clients with 8 streams each killed at {busy}; {seconds:.2f} s later "
                  f"{now}", flush=True)
            if any(now.values()):
                return False
        print(f"all pages back within {worst:.2f} s, the next answer is {'as ever' if same else 'ANOTHER ONE'}")
    return same and worst < 5.0


# ---- malformed: a small fuzzer

PIECES = [b"GET / HTTP/1.1\r\n", b"POST /v1/completions HTTP/1.1\r\n", b"POST /tokenize HTTP/1.0\r\n", b"Host: h\r\n", b"\r\n",
          b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n", b"abcde",
          b"Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n", b"0\r\n\r\n", b"fffffffffffffffff\r\n", b";ext=\"", b"\r", b"\n",
          b"Expect: 100-continue\r\n", b"Connection: close, keep-alive\r\n", b" folded\r\n", b": no name\r\n", b"a" * 5000,
          b"\0\xff\x80", b"OPTIONS * HTTP/1.1\r\n", b"GET /%2e%2e/%c3%28?%00 HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01",
          b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n",
          b"Authorization: Bearer \xff\r\n", b"X-Request-Id: a\tb\r\n", b"Origin: http://x\r\n"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", 1, None]}}, "required": ["a"]}
BODIES = [(COMPLETIONS, {"prompt": "Hello", "n": 2, "logprobs": 3, "echo": True, "stop": ["a", "\n"], "seed": 1}),
          (COMPLETIONS, {"prompt": [1, 2, 3], "logit_bias": {"5": 1.5}, "min_tokens": 2, "top_k": 5, "top_p": 0.5}),
          (COMPLETIONS, {"prompt": ["a", "b"], "presence_penalty": 1, "repetition_penalty": 1.1, "stop_token_ids": [3]}),
          (COMPLETIONS, {"prompt": "x", "guided_regex": "[a-c]{1,3}", "stream": True, "stream_options": {"include_usage": True}}),
          (CHAT, {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "logprobs": True, "top_logprobs": 2}),
          (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
                  "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}}),
          (CHAT, {"messages": [{"role": "user", "content": "Hi"}], "tool_choice": "auto",
                  "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]}),
          ("/tokenize", {"prompt": "Hello", "return_token_strs": True}), ("/detokenize", {"tokens": [1, 2, 3]})]
ODD = [None, True, -1, 0, 1, 2 ** 31, 2 ** 63, -2 ** 63, 10 ** 400, 0.5, -1e308, 1e308, "", "x", "\ud800", "\0", "é" * 3, "x" * 3000,
       [], {}, [[]], {"": {}}, [None] * 50, "(" * 40, "[", "a{1000000}", "(a*)*b", float("nan"), float("inf"), "$ref", "#/"]


def places_of(value, place=()):
    """Every place inside of a JSON value."""
    found = [place] if place else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places_of(inner, (*place, key))
    return found


def change(source, body):
    for _ in range(source.randrange(1, 4)):
        places = places_of(body)
        if not places:
            return body
        place = source.choice(places)
        inside = body
        for key in place[:-1]:
            inside = inside[key]
        way = source.randrange(4)
        if way == 0:
            del inside[place[-1]]
        elif way == 1 and isinstance(inside, dict):
            inside[source.choice(["type", "anyOf", "pattern", "additionalProperties", "n", "messages", "items"])] = \
                copy.deepcopy(source.choice(ODD))
        elif way == 2:
            depth = source.choice([3, 50, 2000])
            inside[place[-1]] = 0
            nested = json.dumps(body).encode()
            return nested.replace(b"0", b"[" * depth + b"]" * depth, 1)
        else:
            inside[place[-1]] = copy.deepcopy(source.choice(ODD))
    return body


def odd_request(source):
    """(bytes, whether they are a whole request)"""
    if source.random() < 0.4:
        data = b"".join(source.choice(PIECES) for _ in range(source.randrange(1, 9)))
        if source.random() < 0.7:
            data = source.choice(PIECES[:3]) + b"Host: h\r\n" + data
        whole = False
    else:
        path, body = source.choice(BODIES)
        body = change(source, json.loads(json.dumps(body | ({"max_tokens": 6} if path.startswith("/v1") else {}))))
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if source.random() < 0.3:
            body = bytearray(body)
            for _ in range(source.randrange(1, 4)):
                body[source.randrange(len(body))] = source.randrange(256)
            body = bytes(body)
        data = b"POST %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body
        whole = True
    if not whole and source.random() < 0.5:
        data = bytearray(data)
        for _ in range(source.randrange(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        data = bytes(data)
    return data, whole


def fuzz_until(deadline, seed, port, counts, faults):
    source = random.Random(seed)
    while time.monotonic() < deadline and len(faults) < 5:
        data, whole = odd_request(source)
        leaves = source.random()
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=60)
        except OSError as failure:
            faults.append((f"no connection: {failure}", b""))
            return
        with client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sent = 0
            while sent < len(data):
                piece = len(data) if source.random() < 0.7 else source.randrange(1, 200)
                client.sendall(data[sent:sent + piece])
                sent += piece
            if leaves < 0.1:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if leaves < 0.2:
                counts["left"] += 1
                continue
            if not whole or leaves < 0.4:
                client.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while more := client.recv(65536):
                    answer += more
            except socket.timeout:
                faults.append(("no answer within a minute", data))
            while answer.startswith(b"HTTP/1.1 100 "):
                answer = answer.partition(b"\r\n\r\n")[2]
            status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "none"
            counts[status] += 1
            if status.startswith("5") and status not in ("501", "503"):
                faults.append((answer[-300:].decode("latin-1"), data))
            if whole and status == "none":
                faults.append(("no answer", data))


def malformed(args):
    # A request that has lost its max_tokens is not malformed, but long.
    with server(args, "--max-seq-len 128") as served:
        pid, port = served.process.pid, int(served.url.rsplit(":", 1)[1])
        expected = known_text(served.url)
        counts, faults = collections.Counter(), []

        def attack(seconds, seed):
            deadline = time.monotonic() + seconds
            threads = [threading.Thread(target=fuzz_until, args=(deadline, seed + i, port, counts, faults)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        attack(args.seconds / 10, 1000)
        before, files = own_memory(pid), descriptors(pid)
        attack(args.seconds, args.seed)
        alive = served.process.poll() is None
        print(f"{counts.total()} connections in {1.1 * args.seconds:g} s: "
              + ", ".join(f"{count} x {status}" for status, count in sorted(counts.items())))
        for what, data in faults[:5]:
            print(f"FAULT: {what}\n  {data[:1500]!r}")
        if not alive:
            print(f"the server has ended: {served.text()[-1000:]}")
            return False
        seconds, now = idle_gauges(served.url)
        same = known_text(served.url) == expected
        grown = (own_memory(pid) - before) / 1024
        print(f"{seconds:.2f} s later {now}; memory {grown:+.1f} MiB, descriptors {descriptors(pid) - files:+d}, the next answer is "
              f"{'as ever' if same else 'ANOTHER ONE'}")
    return not faults and not any(now.values()) and same and grown < 32


# ---- sigterm: what was begun is finished or told so

def sigterm(args):
    async def one(url, number, tokens, counts):
        body = {"prompt": random_ids(number, 32), "max_tokens": tokens, "ignore_eos": True, "stream": number % 2 == 0}
        try:
            status, answer = await ask(url, body)
        except OSError:
            counts["no connection"] += 1
            return
        if status == 200 and body["stream"]:
            if not answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                counts["a stream without its end"] += 1
            elif b'"finish_reason":"length"' in answer:
                counts["a whole stream"] += 1
            else:
                counts["a stream that was told" if b"shutting_down" in answer else "a stream that was NOT told"] += 1
        elif status == 200:
            counts["a whole answer" if b'"finish_reason":"length"' in answer else "HALF an answer"] += 1
        else:
            counts[f"status {status}"] += 1

    async def load(served, tokens, counts):
        tasks = [asyncio.create_task(one(served.url, number, tokens, counts)) for number in range(96)]
        await asyncio.sleep(1.0)
        begin = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        while served.process.poll() is None and time.monotonic() < begin + 60:
            await asyncio.sleep(0.02)
            if len(tasks) < 160:
                tasks.append(asyncio.create_task(one(served.url, len(tasks), 1, counts)))
        seconds = time.monotonic() - begin
        await asyncio.gather(*tasks)
        return seconds

    good = True
    for tokens, grace, what in ((24, 60, "all can end"), (1500, 2, "none can")):
        counts = collections.Counter()
        with server(args, f"--grace-s {grace}") as served:
            seconds = asyncio.run(load(served, tokens, counts))
            status = served.process.poll()
        print(f"--grace-s {grace}, 96 answers of {tokens} tokens ({what}): ended with status {status} after {seconds:.2f} s; "
              + ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items())), flush=True)
        bad = {"a stream without its end", "a stream that was NOT told", "HALF an answer", "status 0", "status 500"}
        good = good and status == 0 and not bad & set(counts) and seconds < grace + 5
        if what == "all can end":
            good = good and counts["a whole stream"] + counts["a whole answer"] >= 96
    return good


# ---- full-log: the access log's file system takes no more

def full_log(args):
    async def many(url, first):
        for number in range(first, first + 400):
            status, _ = await ask(url, {"prompt": str(number)}, "/tokenize")
            assert status == 200, status

    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "access.log")
        with server(args, f"--access-log {log}") as served:
            pid = served.process.pid
            asyncio.run(many(served.url, 0))
            size = os.path.getsize(log)
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            # As a full disk, but for the name of the error: in the middle of a line nothing more is taken.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 10000, hard))
            asyncio.run(many(served.url, 400))
            kept = os.path.getsize(log)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            asyncio.run(many(served.url, 800))
            served.process.send_signal(signal.SIGTERM)
            status = served.process.wait(60)
            said = [line for line in served.text().splitlines() if "access log" in line]
        with open(log, encoding="utf-8") as file:
            lines = file.read().split("\n")
    whole = sum(json.loads(line)["path"] == "/tokenize" for line in lines[:-1])
    print(f"1200 answers, all of them 200; the log grew by {kept - size} bytes while it was full, {whole} lines are in it; "
          f"status {status}")
    print("\n".join(said))
    # One more line: the question whether it is ready.
    lost = 1200 - whole
    return status == 0 and kept - size <= 10000 and lines[-1] == "" and 0 < lost and any(f" {lost} lines" in line for line in said)
