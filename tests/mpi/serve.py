"""A server of two ranks: it answers what one process answers, drains when mpirun gets SIGUSR1, and
ends with a clear line when a rank is killed.

  serve.py PROGRAM MODEL
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time

from program import ENVIRONMENT
from watchdog import ranks_of, runs

ENDS_WITHIN_S = 15
GRACE_S = 1
ASK = {"prompt": [1, 2, 3], "temperature": 0, "ignore_eos": True}


class Server:
    def __init__(self, program, model, ranks):
        launcher = ["mpirun", "-n", str(ranks)] if ranks else []
        self.program = program
        self.job = subprocess.Popen(
            [*launcher, program, "serve", "--model", model, "--mesh", "8x4", "--port", "0", "--threads",
             "1", "--watchdog-s", "4", "--grace-s", str(GRACE_S)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        line = self.job.stdout.readline()
        if not line.startswith("Listening on "):
            self.job.kill()
            raise RuntimeError(f"no server: {line}{self.job.stderr.read()}")
        self.port = int(line.rsplit(":", 1)[1])

    def ask(self, **fields):
        """A connection on which an answer is on its way."""
        body = json.dumps(ASK | fields).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=ENDS_WITHIN_S)
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return connection

    def end(self):
        """(status, stderr), once the job and all its ranks are gone."""
        _, errors = self.job.communicate(timeout=ENDS_WITHIN_S)
        return self.job.returncode, errors


def rest_of(connection):
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received.decode()


def text_of(answer):
    return json.loads(answer.partition("\r\n\r\n")[2])["choices"][0]["text"]


def check_answers(program, model):
    texts = []
    for ranks in (0, 2):
        server = Server(program, model, ranks)
        texts.append(text_of(rest_of(server.ask(max_tokens=24))))
        server.job.send_signal(signal.SIGUSR1)
        status, errors = server.end()
        if status != 0:
            return f"{ranks} ranks: status {status} after SIGUSR1: {errors}"
    if not texts[0] or texts[0] != texts[1]:
        return f"one process: {texts[0]!r}, two ranks: {texts[1]!r}"
    return None


def check_drain(program, model):
    server = Server(program, model, 2)
    connection = server.ask(max_tokens=8000, stream=True)
    connection.recv(4096)
    begin = time.monotonic()
    server.job.send_signal(signal.SIGUSR1)
    answer = rest_of(connection)
    seconds = time.monotonic() - begin
    status, errors = server.end()
    if status != 0 or "shutting_down" not in answer or "data: [DONE]" not in answer:
        return f"status {status}, the stream ended with {answer[-300:]!r}: {errors}"
    if seconds < 0.9 * GRACE_S:
        return f"the stream had {seconds:.2f} s, not {GRACE_S}"
    return None


def check_killed_rank(program, model):
    server = Server(program, model, 2)
    connection = server.ask(max_tokens=8000, stream=True)
    connection.recv(4096)
    ranks = ranks_of(program, server.job.pid)
    os.kill(ranks[1], signal.SIGKILL)
    answer = rest_of(connection)
    status, errors = server.end()
    if status == 0 or "data: [DONE]" in answer:
        return f"status {status}, and the stream has its end"
    if "rank 1 with devices" not in errors:
        return f"nobody says who is missing: {errors}"
    left = [pid for pid in ranks.values() if runs(pid)]
    return f"{left} still run" if left else None


def main(program, model):
    failed = 0
    for check in (check_answers, check_drain, check_killed_rank):
        problem = check(program, model)
        print(f"{check.__name__}: {'FAILED: ' + problem if problem else 'as it should be'}")
        failed += problem is not None
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
