"""llama-tg serve as a process of a test: from its "Listening" line to its end."""
import os
import pathlib
import signal
import subprocess
import time

PROGRAM = os.environ["CLIENTS_PROGRAM"]
MODEL = os.environ["CLIENTS_MODEL"]
WORK = pathlib.Path(os.environ["CLIENTS_WORK"])
NAME = "smollm2"
NOTES = []  # lines for the end of the report


class Server:
    """One on a free port of the loopback interface; ends with the `with` block."""

    def __init__(self, label, *options):
        self.access_log = WORK / f"{label}.access.log"
        self.access_log.unlink(missing_ok=True)
        self.log = WORK / f"{label}.log"
        command = [PROGRAM, "serve", "--model", MODEL, "--served-model-name", NAME, "--port", "0",
                   "--access-log", str(self.access_log), *options]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        if not line.startswith("Listening on "):
            self.__exit__()
            raise RuntimeError(f"{line}{self.log.read_text()}")
        self.root = line.split()[-1]
        self.url = self.root + "/v1"
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.status = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.status = self.process.wait()
        self.process.stdout.close()

    def becomes_idle(self, client):
        """Whether nobody runs or waits within two seconds, by /metrics."""
        for _ in range(100):
            text = client.get(self.root + "/metrics").text
            gauges = [line for line in text.splitlines()
                      if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))]
            if len(gauges) == 2 and all(float(line.split()[-1]) == 0 for line in gauges):
                return True
            time.sleep(0.02)
        return False
