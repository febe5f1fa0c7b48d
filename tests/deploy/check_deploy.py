"""What of deploy/ can be checked without starting it: systemd takes the unit, and gives its service few rights; the
image has the libraries that the program needs, and what it copies is there.

  check_deploy.py PROGRAM SOURCE_DIR
"""
import os
import re
import shlex
import subprocess
import sys
import tempfile

# Of systemd-analyze security, in tenths: 1.8 at the time of writing.
MOST_EXPOSED = 20
UNIT = "llama-tg.service"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip()


def default_of(program, option):
    return int(re.search(rf"{option} \w+=(\d+)", run(program, "serve", "--help")[1]).group(1))


def check_unit(program, source):
    with open(f"{source}/deploy/{UNIT}", encoding="utf-8") as file:
        unit = file.read()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{UNIT}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(unit.replace("/usr/local/bin/llama-tg", program))
        status, said = run("systemd-analyze", "verify", "--man=no", path)
        # What it does not know it ignores, and says so.
        if status != 0 or said:
            return f"systemd-analyze verify, status {status}: {said}"
        status, said = run("systemd-analyze", "security", "--offline=yes", "--no-pager",
                           f"--threshold={MOST_EXPOSED}", path)
    if status != 0:
        return f"systemd-analyze security: {said[-2000:]}"
    grace = default_of(program, "--grace-s")
    stop = float(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M).group(1))
    if stop < grace + 10:
        return f"TimeoutStopSec={stop:g} leaves no time behind --grace-s {grace:g}"
    return None


def instructions(source):
    """(instruction, words) of the Dockerfile, with continued lines joined and comments left out."""
    with open(f"{source}/deploy/Dockerfile", encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n") if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split()[1:]) for line in text.split("\n") if line.strip()]


def package_of(library):
    """Of a file; what /lib and /usr/lib have in common may be known under either name."""
    for path in (library, os.path.realpath(library), os.path.realpath(library).removeprefix("/usr")):
        status, said = run("dpkg", "-S", path)
        if status == 0:
            return said.split(":")[0]
    return f"(no package has {library})"


def check_libraries(program, source):
    needed = re.findall(r"\(NEEDED\).*\[(\S+)\]", run("readelf", "-d", program)[1])
    found = dict(re.findall(r"^\s*(\S+) => (\S+)", run("ldd", program)[1], re.M))
    # The image is built without MPI; the loader and libc are one package.
    packages = {name: package_of(found[name]) for name in needed
                if not name.startswith(("libmpi", "ld-linux"))}
    if len(packages) < 8:
        return f"only {packages} of {needed}: read wrongly"
    runtime = [words for name, words in instructions(source) if name == "RUN" and "install" in words][-1]
    missing = {name: package for name, package in packages.items() if package not in runtime}
    return f"the image lacks {missing}" if missing else None


def check_copies(program, source):
    del program
    with open(f"{source}/deploy/Dockerfile.dockerignore", encoding="utf-8") as file:
        sent = [line[1:] for line in file.read().split() if line.startswith("!")]
    copied = [word for name, words in instructions(source) if name == "COPY" and not words[0].startswith("--from")
              for word in words[:-1]]
    if not copied:
        return "no COPY"
    for name in copied:
        if not os.path.exists(f"{source}/{name}"):
            return f"COPY {name}: there is no such file"
        if name not in sent:
            return f"COPY {name}: not sent to the builder"
    # Everything that the build reads: a folder that CMake adds must be copied too.
    for cmake in ("CMakeLists.txt", "src/CMakeLists.txt"):
        with open(f"{source}/{cmake}", encoding="utf-8") as file:
            for name in re.findall(r"\$\{CMAKE_SOURCE_DIR\}/(\w+)", file.read()):
                if name not in copied:
                    return f"{cmake} reads {name}, which is not copied"
    return None


def check_health(program, source):
    """The health check asks where the program listens by default."""
    check = next(words for name, words in instructions(source) if name == "HEALTHCHECK")
    url = f"http://127.0.0.1:{default_of(program, '--port')}/health"
    return None if any(url in word for word in check) else f"not {url}: {shlex.join(check)}"


def main(program, source):
    failed = 0
    for check in (check_unit, check_libraries, check_copies, check_health):
        problem = check(program, source)
        print(f"{check.__name__}: {'FAILED: ' + problem if problem else 'as it should be'}")
        failed += problem is not None
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
