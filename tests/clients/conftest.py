"""What every test here uses: the clients' processes, started once, and the scripted peer."""

import pytest

from peer import Peer
from workers import Clients


@pytest.fixture(scope="session")
def clients():
    clients = Clients()
    yield clients
    clients.stop()


@pytest.fixture(scope="session")
def peer():
    with Peer() as peer:
        yield peer
