#!/bin/sh
# tests/clients/make_venv.sh REQUIREMENTS FOLDER: a virtual environment FOLDER/venv of a list of packages (PyPI), unless
# it is there already and the list is still the same.
set -eu
wanted=$1
work=$2
mkdir -p "$work"
if cmp -s "$wanted" "$work/installed.txt"; then exit 0; fi
echo "Making $work/venv of $wanted" >&2
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check -r "$wanted" >"$work/install.log" 2>&1 || {
  tail -n 20 "$work/install.log" >&2
  exit 1
}
cp "$wanted" "$work/installed.txt"
