"""schemathesis on the server's own /openapi.json, once without forms of answers and once for each."""
import collections
import json
import os
import pathlib
import subprocess
import sys

import pytest

from schema_hooks import FORMS
from servers import NOTES, WORK, Server

FOLDER = pathlib.Path(__file__).parent
# Boundary values are some 1,000 requests a run; these come on top, for each path.
EXAMPLES = "40"
LEAST_REQUESTS = 2000

counts = collections.Counter()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["", *FORMS])
def test_every_request_is_answered_as_the_document_says(form):
    label = form or "all"
    which = ["--include-path-regex", "/v1/(chat/)?completions"] if form else []
    with Server(f"openapi-{label}", "--max-users", "8") as server:
        command = [pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file",
                   FOLDER / "schemathesis.toml", "run", server.root + "/openapi.json", "--max-examples", EXAMPLES,
                   "--seed", "1", "--no-color", *which]
        environment = os.environ | {"SCHEMA_FORM": form, "SCHEMATHESIS_HOOKS": "schema_hooks",
                                    "PYTHONPATH": str(FOLDER)}
        ran = subprocess.run(command, env=environment, cwd=WORK, capture_output=True, text=True)
    assert server.status == 0, server.log.read_text()
    records = [json.loads(line) for line in server.access_log.read_text().splitlines()]
    statuses = collections.Counter(record["status"] for record in records)
    counts.update(statuses)
    NOTES.append(f"{label}: {len(records)} requests, by status {dict(sorted(statuses.items()))}")
    assert not [record for record in records if record["status"] >= 500]
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr
    # A good part gets past the checks and is answered.
    assert statuses[200] > len(records) / 10


def test_there_were_enough_requests():
    if not counts:
        pytest.skip("nothing was generated")
    assert counts.total() >= LEAST_REQUESTS
    assert not [status for status in counts if status >= 500]
    NOTES.append(f"{counts.total()} generated requests in all, none with a status of 500 or more")
