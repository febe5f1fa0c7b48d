#!/usr/bin/env python3
"""A completions server that does not compute: the request's "model" names a script, which says when
which piece of the answer goes out (case C48). Standard library only; listens on 127.0.0.1.

    fake_sse_server.py [PORT] [--port PORT]      0: a free port; prints "Listening on http://127.0.0.1:PORT"

GET /truth     per script what a client has to report: ok, tokens, ttft_ms, tpot_ms, e2e_ms
GET /measured  per script a list of answers: ms from the request to each chunk with text, as it really went out
GET /last      path, Authorization and body of the last POST
GET /v1/models, /health
"""
import asyncio
import dataclasses
import json
import sys
import time


def steps(first, gap, count):
    return tuple(first + gap * i for i in range(count))


@dataclasses.dataclass(frozen=True)
class Script:
    at: tuple = ()  # ms of each chunk with text; those of one time go out together
    each: int = 1  # tokens in a chunk, but one in the first
    word: str = " tok"
    role: bool = False  # an empty chunk with the role, at once
    finish: str = "length"
    usage: bool = True
    done: bool = True  # [DONE] at the end
    status: int = 200
    plain_json: bool = False  # as if nobody had asked for a stream
    error_event: bool = False  # behind the text
    newline: str = "\n"
    colon: str = ": "
    extras: bool = False  # comments and fields that no client needs
    piece: int = 0  # bytes in one write; 0: whole events
    stays_open: bool = False  # for two seconds behind [DONE]
    chunked: bool = True  # else the end of the connection is the end of the answer

    @property
    def tokens(self):
        return 1 + self.each * (len(self.at) - 1) if self.at else 0

    def truth(self):
        ok = self.status == 200 and self.tokens > 0 and self.done and not self.error_event
        first = self.at[0] if self.at else None
        per_token = (self.at[-1] - first) / (self.tokens - 1) if ok and self.tokens > 1 else None
        return {"ok": ok, "tokens": self.tokens, "ttft_ms": first, "tpot_ms": per_token,
                "e2e_ms": self.at[-1] if ok else None}


TEN = steps(200, 20, 10)
SCRIPTS = {
    "plain": Script(TEN),
    "role_first": Script(TEN, role=True),
    "coalesced": Script(steps(200, 40, 6), each=2),
    "spaces": Script(TEN, word=" "),
    "one": Script((200,)),
    "empty": Script(finish="stop"),
    "fail": Script(status=500),
    "cut": Script(TEN[:3], done=False, chunked=False),
    "torn": Script(TEN[:3], done=False),  # inside of what the transfer coding promised
    "silent": Script((60000,), done=False),
    # Manners of other servers:
    "closes": Script(TEN, chunked=False),
    "crlf": Script(TEN, newline="\r\n", extras=True),
    "tight": Script(TEN, colon=":"),
    "pieces": Script(TEN, piece=7),
    "together": Script(tuple(200 + 40 * (i // 2) for i in range(10))),
    "no_usage": Script(TEN, usage=False),
    "late_error": Script(TEN[:3], error_event=True),
    "no_stream": Script(plain_json=True),
    "lingers": Script((50, 60), stays_open=True),
    "asked": Script(steps(20, 2, 128)),  # as many tokens as max_tokens says
}


class Answer:
    """One streamed answer; in chunked transfer coding the connection may be used again."""

    def __init__(self, writer, script, chat, name):
        self.writer, self.script, self.chat, self.name = writer, script, chat, name

    def event(self, choice=None, **more):
        body = {"id": "fake-1", "object": "chat.completion.chunk" if self.chat else "text_completion",
                "created": 0, "model": self.name, "choices": [] if choice is None else [choice], **more}
        return self.data(json.dumps(body))

    def data(self, text):
        nl = self.script.newline
        lines = [f"data{self.script.colon}{text}"]
        if self.script.extras:
            lines = [": still here", "event: message", "id: 7"] + lines
        return nl.join(lines) + nl + nl

    def text(self, text=None, role=False, finish=None):
        choice = {"index": 0, "finish_reason": finish, "logprobs": None}
        if self.chat:
            choice["delta"] = {} if text is None else {"content": text}
            if role:
                choice["delta"] = {"role": "assistant", "content": ""}
        else:
            choice["text"] = text or ""
        return self.event(choice)

    async def send(self, text):
        bytes_left = text.encode()
        size = self.script.piece or len(bytes_left)
        while bytes_left:
            part, bytes_left = bytes_left[:size], bytes_left[size:]
            self.writer.write(b"%x\r\n%s\r\n" % (len(part), part) if self.script.chunked else part)
            await self.writer.drain()
            if bytes_left:
                await asyncio.sleep(0)

    async def run(self, begin, with_usage, sent):
        """Appends to `sent` the ms behind `begin` of each chunk with text."""
        script = self.script
        now = lambda: 1000 * (time.monotonic() - begin)
        if script.role:
            await self.send(self.text(role=True))
        for at in sorted(set(script.at)):
            await asyncio.sleep(max(0.0, at - now()) / 1000)
            words = []
            for i in range(script.at.count(at)):
                words.append(script.word * (script.each if sent or i else 1))
            sent += [now()] * len(words)
            await self.send("".join(self.text(word) for word in words))
        if script.error_event:
            await self.send(self.data(json.dumps({"error": {"message": "out of luck", "code": 500}})))
        elif script.done:
            await self.send(self.text(finish=script.finish))
            if with_usage and script.usage:
                counts = {"prompt_tokens": 4, "completion_tokens": script.tokens,
                          "total_tokens": 4 + script.tokens}
                await self.send(self.event(usage=counts))
            await self.send(self.data("[DONE]"))
            if script.stays_open:
                await asyncio.sleep(2)
            if script.chunked:
                self.writer.write(b"0\r\n\r\n")


class Server:
    def __init__(self):
        self.measured = {name: [] for name in SCRIPTS}
        self.last = {}

    def reply(self, writer, status, body):
        data = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                     % (status, len(data)) + data)

    def refuse(self, writer, status, message):
        self.reply(writer, status, {"error": {"message": message, "type": "server_error",
                                              "param": None, "code": None}})

    def get(self, writer, path):
        pages = {
            "/truth": {name: script.truth() for name, script in SCRIPTS.items()},
            "/measured": self.measured,
            "/last": self.last,
            "/health": {},
            "/v1/models": {"object": "list", "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in SCRIPTS]},
        }
        if path in pages:
            self.reply(writer, 200, pages[path])
        else:
            self.refuse(writer, 404, "no such path")

    async def post(self, writer, path, headers, body):
        """False when the connection is to be closed."""
        begin = time.monotonic()
        asked = json.loads(body)
        self.last = {"path": path, "authorization": headers.get("authorization"), "body": asked}
        name = asked.get("model", "plain")
        script = SCRIPTS.get(name, Script(status=404))
        if script.status != 200:
            self.refuse(writer, script.status, "scripted failure")
            return True
        if script.plain_json:
            self.reply(writer, 200, {"id": "fake-1", "choices": [{"index": 0, "text": "whole"}]})
            return True
        if name == "asked":
            script = dataclasses.replace(script, at=steps(20, 2, asked.get("max_tokens", 16)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     + (b"Transfer-Encoding: chunked" if script.chunked else b"Connection: close")
                     + b"\r\n\r\n")
        answer = Answer(writer, script, path.endswith("/chat/completions"), name)
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        self.measured[name].append([])
        await answer.run(begin, with_usage, self.measured[name][-1])
        return script.chunked and script.done and not script.error_event

    async def talk(self, reader, writer):
        try:
            goes_on = True
            while goes_on:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                headers = {k.strip().lower(): v.strip() for k, v in
                           (line.split(":", 1) for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if method == "POST":
                    goes_on = await self.post(writer, path, headers, body)
                else:
                    self.get(writer, path)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client is gone
        finally:
            writer.close()


async def main():
    words = [word for word in sys.argv[1:] if word != "--port"]
    server = await asyncio.start_server(Server().talk, "127.0.0.1", int(words[0]) if words else 0,
                                        backlog=1024)
    print(f"Listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
