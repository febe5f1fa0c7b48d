import openai
import pytest

from servers import NOTES, Server

# Settings of a client that shows errors at once.
ONCE = {"api_key": "none", "max_retries": 0, "timeout": 60}


@pytest.fixture(scope="session")
def server():
    with Server("server", "--max-users", "8") as running:
        yield running
    assert running.status == 0, running.log.read_text()


@pytest.fixture(scope="session")
def client(server):
    with openai.OpenAI(base_url=server.url, **ONCE) as made:
        yield made


def pytest_terminal_summary(terminalreporter):
    for note in NOTES:
        terminalreporter.write_line(note)
