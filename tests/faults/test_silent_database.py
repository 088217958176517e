"""A PostgreSQL host that goes silent without closing its connections, as after a loss of power."""

import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests import machines
from tests.integration.workers.workplace import wait_until
from tests.machines import Network
from tests.servers import Postgres

_UNAVAILABLE_WITHIN_S = 60.0
"""It takes 20 s: a connection is given up after 15 s, and a new one after 5 s. By TCP's defaults it takes 15 minutes."""
_CASES = ("waiting", "sending", "connecting")
_CLIENT = """
import sys, threading, time
from pathlib import Path
from sqlalchemy import text
from db.errors import Unavailable
from db.session import Database

folder, database = Path(sys.argv[2]), Database(sys.argv[1])

def wait_for_cut():
    while not (folder / "cut").exists():
        time.sleep(0.05)

def wait():
    with database.read() as s:
        s.execute(text("SELECT 1"))
        (folder / "waiting.began").touch()
        s.execute(text("SELECT pg_sleep(600)"))

def send():
    with database.read() as s:
        s.execute(text("SELECT 1"))
        (folder / "sending.began").touch()
        wait_for_cut()
        s.execute(text("SELECT 1"))

def connect():
    (folder / "connecting.began").touch()
    wait_for_cut()
    with Database(sys.argv[1]).read() as s:
        s.execute(text("SELECT 1"))

def report(act, name):
    try:
        act()
    except Unavailable as error:
        (folder / f"{name}.unavailable").write_text(str(error))

for act, name in ((wait, "waiting"), (send, "sending"), (connect, "connecting")):
    threading.Thread(target=report, args=(act, name)).start()
"""


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := machines.why_not():
        pytest.skip(reason)
    with Network() as network:
        yield network


@pytest.mark.postgres
def test_a_database_host_that_goes_silent_is_unavailable_within_seconds(network: Network) -> None:
    with closing(Postgres(host=network.address)) as postgres:
        machine = network.machine("client")
        client = machine.start([sys.executable, "-c", _CLIENT, postgres.create(), str(machine.folder)])
        for case in _CASES:
            wait_until((machine.folder / f"{case}.began").exists, f"the client is {case}")
        machine.cut()
        (machine.folder / "cut").touch()
        assert client.wait(_UNAVAILABLE_WITHIN_S) == 0, machine.log.read_text()
        ended = [case for case in _CASES if (machine.folder / f"{case}.unavailable").exists()]
        assert ended == list(_CASES), machine.log.read_text()
