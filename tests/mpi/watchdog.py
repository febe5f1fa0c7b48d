"""Ends or stops one rank in the middle of a decode, again and again, and checks that the whole job
ends in time, with a status that is not 0 and a line that says who is missing and what waited.

  watchdog.py PROGRAM MODEL [--times 20] [--ranks 4] [--watchdog-s 10]
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import time

LINE = re.compile(
    r"llama-tg: error: (rank .+); rank \d+ (?:waits in|was last in) .+, step \d+(?:, layer \d+)?"
    r"\. The job ends\.")
MISSING = re.compile(
    r"rank (\d+) with devices (\(\d+,\d+\)(?:\.\.\(\d+,\d+\))?) "
    r"(?:has ended|not heard of for [\d.]+ s)(?:, |$)")
DEVICES = {2: ["(0,0)..(3,3)", "(4,0)..(7,3)"],
           4: ["(0,0)..(1,3)", "(2,0)..(3,3)", "(4,0)..(5,3)", "(6,0)..(7,3)"]}


def missing_in(line):
    """{rank: devices} that the line names; None when it is no such line."""
    match = LINE.search(line)
    if not match or MISSING.sub("", match[1]):
        return None
    return {int(rank): devices for rank, devices in MISSING.findall(match[1])}


def ranks_of(program, launcher=None):
    """{rank: pid} of the processes that run the program, as children of the launcher if one is given."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
            if launcher not in (None, parent) or os.path.realpath(f"/proc/{pid}/exe") != program:
                continue
            environment = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
        except OSError:
            continue
        for entry in environment:
            if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                found[int(entry.split(b"=")[1])] = int(pid)
    return found


def runs(pid):
    """False also for a process that has ended and was not waited for (a container's first process
    often does not wait for orphans)."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def once(args, what, victim):
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1")
    command = ["mpirun", "-n", str(args.ranks), args.program, "generate", "--model", args.model,
               "--mesh", "8x4", "--prompt-ids", "1,2,3", "--max-generated-tokens", "100000",
               "--stop-at-eos", "0", "--watchdog-s", str(args.watchdog_s)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=environment, text=True)
    # Text means that the decode is under way.
    job.stdout.read(1)
    time.sleep(0.3)
    pids = ranks_of(args.program, job.pid)
    if sorted(pids) != list(range(args.ranks)):
        job.kill()
        return f"found the ranks {sorted(pids)} of {args.ranks}"
    begin = time.monotonic()
    os.kill(pids[victim], signal.SIGKILL if what == "kill" else signal.SIGSTOP)
    try:
        _, errors = job.communicate(timeout=args.watchdog_s + 5)
    except subprocess.TimeoutExpired:
        job.kill()
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        return "the job hangs"
    seconds = time.monotonic() - begin
    time.sleep(0.2)
    left = [pid for pid in pids.values() if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    lines = [line for line in errors.splitlines() if line.startswith("llama-tg: ")]
    if seconds > args.watchdog_s:
        return f"took {seconds:.1f} s"
    if job.returncode == 0:
        return "exit status 0"
    if left:
        return f"processes {left} are left"
    if not lines:
        return f"no line that says who is missing: {errors!r}"
    for line in lines:
        if missing_in(line) != {victim: DEVICES[args.ranks][victim]}:
            return f"rank {victim} is missing, but: {line}"
    print(f"{what} rank {victim}: {seconds:.1f} s, status {job.returncode}, {len(lines)} line(s): "
          f"{lines[0]}", flush=True)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=4, choices=sorted(DEVICES))
    parser.add_argument("--watchdog-s", type=float, default=10)
    args = parser.parse_args()
    args.program = os.path.realpath(args.program)
    failures = 0
    for i in range(args.times):
        for what in ("kill", "stop"):
            problem = once(args, what, i % args.ranks)
            if problem:
                print(f"{what} rank {i % args.ranks}: FAILED: {problem}", flush=True)
                failures += 1
    print(f"{2 * args.times} jobs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
