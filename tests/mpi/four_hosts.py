"""The checks of four_hosts.sh, run inside of its namespaces: a job over four hosts gives what one
process gives; and when a rank dies or stands still, or a host's link goes down in the middle of a
decode, the whole job ends in time, with a status that is not 0 and lines that are true.

  four_hosts.py PROGRAM MODEL AGENT
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from watchdog import missing_in, ranks_of, runs

HOSTS = 4
WATCHDOG_S = 8
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
# Only what real hosts have in common: TCP. Without the keepalive, mpirun itself would wait for about
# a quarter of an hour for a host that it cannot reach.
NETWORK = ["--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include", "10.77.0.0/24",
           "--mca", "oob_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_keepalive_time", "1",
           "--mca", "oob_tcp_keepalive_intvl", "1", "--mca", "oob_tcp_keepalive_probes", "1"]


def devices_of(rank, ranks):
    rows = 8 // ranks
    return f"({rank * rows},0)..({(rank + 1) * rows - 1},3)"


def program_words(args, output, tokens, more=()):
    return [args.program, "generate", "--model", args.model, "--mesh", "8x4", "--prompt-ids",
            "1,2,3", "--stop-at-eos", "0", "--seed", "7", "--max-generated-tokens", str(tokens),
            "--watchdog-s", str(WATCHDOG_S),
            *(["--output", output] if output else []), *more]


def on_hosts(args, ranks, words):
    """mpirun's command on host 1, with the ranks in equal parts on all hosts."""
    hosts = ",".join(f"10.77.0.{n + 1}:{ranks // HOSTS}" for n in range(HOSTS))
    launch = ["mpirun", "-n", str(ranks), "--host", hosts, "--mca", "plm_rsh_agent", args.agent,
              *NETWORK, *words]
    return ["ip", "netns", "exec", "host1", "unshare", "--uts", "sh", "-c",
            'hostname host1; exec "$@"', "sh", *launch]


def answer(args, ranks, more):
    with tempfile.NamedTemporaryFile("r", suffix=".json") as output:
        words = program_words(args, output.name, 12, ["--logprobs", "5", *more])
        done = subprocess.run(on_hosts(args, ranks, words) if ranks else words, env=ENVIRONMENT,
                              capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{ranks} ranks: status {done.returncode}: {done.stderr}")
        user = json.load(open(output.name, encoding="utf-8"))["users"][0]
        return user["output_ids"], user["text"], user["logprobs"]


def check_equal(args):
    failures = 0
    for more in (["--temperature", "0", "--topology", "ring"],
                 ["--temperature", "0.9", "--topology", "line"]):
        alone = answer(args, 0, more)
        for ranks in (HOSTS, 2 * HOSTS):
            together = answer(args, ranks, more)
            same = together == alone and len(alone[0]) == 12
            print(f"{ranks} ranks on {HOSTS} hosts, {' '.join(more)}: "
                  f"{'as one process' if same else f'FAILED: {together[:2]}, not {alone[:2]}'}",
                  flush=True)
            failures += not same
    return failures


def mend(host):
    """The link is up again and everybody has forgotten that it was down."""
    subprocess.run(["ip", "link", "set", f"port{host + 1}", "up"], check=True)
    for n in range(HOSTS):
        subprocess.run(["ip", "-n", f"host{n + 1}", "neighbour", "flush", "all"], check=True,
                       capture_output=True)
    time.sleep(0.5)


def once(args, what, victim, ranks):
    """One job. `victim` is a rank (kill, stop) or a host (cut), from 0. What is wrong, or None."""
    with tempfile.TemporaryFile("w+") as errors:
        job = subprocess.Popen(on_hosts(args, ranks, program_words(args, "", 100000)),
                               stdout=subprocess.PIPE, stderr=errors, env=ENVIRONMENT)
        # Text means that the decode is under way.
        job.stdout.read(1)
        time.sleep(0.3)
        pids = ranks_of(args.program)  # nothing else of the machine can be seen here
        if sorted(pids) != list(range(ranks)):
            job.kill()
            errors.seek(0)
            return f"found the ranks {sorted(pids)} of {ranks}: {errors.read()}"
        begin = time.monotonic()
        if what == "cut":
            subprocess.run(["ip", "link", "set", f"port{victim + 1}", "down"], check=True)
            # Each side misses the other.
            part = ranks // HOSTS
            lost = set(range(victim * part, (victim + 1) * part))
            truths = [lost, set(range(ranks)) - lost]
        else:
            os.kill(pids[victim], signal.SIGKILL if what == "kill" else signal.SIGSTOP)
            truths = [{victim}]
        try:
            job.wait(WATCHDOG_S + 5)
        except subprocess.TimeoutExpired:
            job.kill()
        seconds = time.monotonic() - begin
        # mpirun's daemon on a host that was cut off ends by itself.
        left = list(pids.values())
        while left and time.monotonic() - begin < WATCHDOG_S + 1:
            time.sleep(0.1)
            left = [pid for pid in left if runs(pid)]
        if what == "cut":
            mend(victim)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        errors.seek(0)
        said = errors.read()
    lines = [line for line in said.splitlines() if line.startswith("llama-tg: ")]
    if seconds > WATCHDOG_S:
        return f"took {seconds:.1f} s: {said}"
    if job.returncode == 0:
        return "exit status 0"
    if left:
        return f"processes {left} are left"
    # mpirun may be over before it passes the line on when its own host is the one that was cut off.
    if not lines and not (what == "cut" and victim == 0):
        return f"no line that says who is missing: {said}"
    for line in lines:
        if missing_in(line) not in [{r: devices_of(r, ranks) for r in truth} for truth in truths]:
            return f"not true: {line}"
    print(f"{what} {victim}, {ranks} ranks: {seconds:.1f} s, status {job.returncode}, "
          f"{len(lines)} line(s): {lines[0] if lines else ''}", flush=True)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("agent")
    args = parser.parse_args()
    args.program = os.path.realpath(args.program)
    args.model = os.path.realpath(args.model)
    failures = check_equal(args)
    for what, victim, ranks in (("kill", 2, 4), ("kill", 0, 4), ("stop", 1, 4), ("cut", 3, 4),
                                ("cut", 0, 4), ("cut", 1, 8)):
        problem = once(args, what, victim, ranks)
        if problem:
            print(f"{what} {victim}, {ranks} ranks: FAILED: {problem}", flush=True)
            failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
