#!/bin/sh
# The server and the clients that it is for: the official OpenAI client, LangChain, and schemathesis on the
# server's own /openapi.json. Starts servers with the small model on free loopback ports; 0 if all held.
#
#   tests/clients/run.sh [PROGRAM [MODEL [PYTEST_OPTION...]]]
#                        default: ./llama-tg and the model of tools/fetch_model.sh
# The first call makes a virtual environment in build/clients of tests/clients/requirements.txt (PyPI).
set -eu
cd "$(dirname "$0")/../.."
program=${1:-./llama-tg}
model=${2:-$(tools/fetch_model.sh | tail -n 1)}
[ $# -gt 2 ] && shift 2 || shift $#
work=$PWD/build/clients
tests/clients/make_venv.sh tests/clients/requirements.txt "$work"

CLIENTS_PROGRAM=$(realpath "$program") CLIENTS_MODEL=$(realpath "$model") CLIENTS_WORK=$work \
  exec "$work/venv/bin/python" -m pytest -q -p no:cacheprovider -c tests/clients/pytest.ini tests/clients "$@"
