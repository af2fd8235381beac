"""A process that writes, killed again and again: what it said was kept is kept, and nothing is torn."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from policyd import engine
from policyd.audit.verify import verify

ROUNDS = int(os.environ.get("POLICYD_WRITER_KILLS", "1000"))
VERIFIED_EVERY = 100
# A process that has everything loaded and forks a writer for each line; loading takes longer than writing.
PROGRAM = """
import os, sys
from pathlib import Path
from tests.unit.policyd.audit.conftest import OWN, Chain, deliver, denial
from policyd.audit.sqlite import SqliteStore
from servicekit.logs import configure_logs
configure_logs(debug=False)
class Unsigned:
    chain = ()
def write(folder, detail):
    os.write(1, b"pid %d\\n" % os.getpid())
    store = SqliteStore(folder, OWN, Unsigned())
    store.start()
    chain, number = Chain(), 0
    while True:
        deliver(store, chain, *(denial(number + each, detail=detail) for each in range(3)))
        number += 3
        os.write(1, b"%d\\n" % number)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        write(Path(sys.argv[1]), line.strip())
    os.waitpid(pid, 0)
    os.write(1, b"dead\\n")
"""


def _killed(process: subprocess.Popen[str], name: str, rng: random.Random) -> int:
    """Let a writer write, kill it; how many records it said were kept."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    pid = int(process.stdout.readline().removeprefix("pid "))
    acknowledged = 0
    for _ in range(rng.randint(0, 4)):
        acknowledged = int(process.stdout.readline())
    os.kill(pid, signal.SIGKILL)
    while (line := process.stdout.readline()) != "dead\n":
        acknowledged = int(line)
    return acknowledged


@pytest.mark.promise("P-12")
def test_au_02_a_killed_writer_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    rng, folder, said = random.Random(7), tmp_path / "audit", Counter[str]()
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path.cwd(),
        text=True,
    ) as process:
        for round_ in range(ROUNDS):
            said[f"round {round_}"] = _killed(process, f"round {round_}", rng)
            if round_ % VERIFIED_EVERY == 0 and said.total():
                assert verify(folder, engine.version).tampered == []
        assert process.stdin is not None
        process.stdin.close()
    with closing(sqlite3.connect(folder / "audit.sqlite")) as database:
        kept = Counter(
            json.loads(found)["detail"] for (found,) in database.execute("SELECT json FROM records")
        )
    assert said.total() > ROUNDS
    assert {name: count for name, count in said.items() if kept[name] < count} == {}
    assert verify(folder, engine.version).tampered == []
