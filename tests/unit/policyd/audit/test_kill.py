"""A process that writes, killed again and again: what it said was kept is kept, and nothing is torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policyd import engine
from policyd.audit.queries import Queries
from policyd.audit.store import Filter
from policyd.audit.verify import verify

ROUNDS = 40
PROGRAM = """
import sys
from pathlib import Path
from tests.unit.policyd.audit.conftest import OWN, Chain, RealSigner, deliver, denial
from policyd.audit.sqlite import SqliteStore
from servicekit.logs import configure_logs
configure_logs(debug=False)
class Unsigned:
    chain = ()
store = SqliteStore(Path(sys.argv[1]), OWN, Unsigned())
store.start()
chain, number = Chain(), 0
while True:
    deliver(store, chain, *(denial(number + each, detail=sys.argv[2]) for each in range(3)))
    number += 3
    print(number, flush=True)
"""


@pytest.mark.promise("P-12")
def test_au_02_a_killed_writer_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    rng, folder = random.Random(7), tmp_path / "audit"
    for round_ in range(ROUNDS):
        command = [sys.executable, "-c", PROGRAM, str(folder), f"round {round_}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path.cwd()
        ) as process:
            assert process.stdout is not None
            acknowledged = 0
            for _ in range(rng.randint(1, 6)):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split(b"\n")[:-1])])
        marked = f'"detail": "round {round_}"'.encode()
        kept = [row for row in Queries(folder).records(Filter(), 1000) if marked in row["json"]]
        assert len(kept) >= min(acknowledged, 1000)
        assert verify(folder, engine.version).tampered == []
