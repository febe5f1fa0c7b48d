#!/bin/sh
# The page in a browser: starts the server with the small model, drives the page in headless Chromium, and
# leaves screenshots in build/page/. Prints what was checked; 0 if all held.
#
#   tests/page/run.sh [PROGRAM [MODEL]]     default: ./llama-tg and the model of tools/fetch_model.sh
# Chromium (Debian's package) and playwright-core (npm, into build/page) are installed when they are missing.
set -eu
cd "$(dirname "$0")/../.."
program=${1:-./llama-tg}
model=${2:-$(tools/fetch_model.sh | tail -n 1)}
work=build/page
mkdir -p "$work"

if ! command -v chromium >/dev/null; then
  as_root=
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium \
    >"$work/install.log" 2>&1 || { tail -n 20 "$work/install.log" >&2; exit 1; }
fi
[ -d "$work/node_modules/playwright-core" ] ||
  npm install --silent --no-audit --no-fund --prefix "$work" playwright-core@1.64.1 >&2

# A mesh, so that its picture has something to show; a key, so that the page has to ask for it.
"$program" serve --model "$model" --port 0 --mesh 3x2 --max-users 8 --api-key page-test-key \
  >"$work/server.out" 2>"$work/server.log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
url=
for _ in $(seq 600); do
  url=$(sed -n 's/^Listening on //p' "$work/server.out")
  [ -z "$url" ] || break
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
  sleep 0.1
done
[ -n "$url" ] || { echo "tests/page/run.sh: the server was not ready after a minute" >&2; exit 1; }

PAGE_URL="$url" PAGE_KEY=page-test-key PAGE_WORK="$PWD/$work" node tests/page/page_test.mjs
