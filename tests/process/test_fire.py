"""Kills at random moments, under load: no request gets an answer that policy doesn't give (P-1, P-2).

A request may go unanswered while a process on its way is dead, and may be told that somebody is unavailable.
But what policy refuses is never let through, and what it allows is never refused by it: every proxy has kept
its table. `make soak` does the same for longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from policyd.up.process import Child

from .mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLS = int(os.environ.get("POLICYD_KILLS", "200"))
REQUESTS = int(os.environ.get("POLICYD_REQUESTS", "100000"))
SEED = int(os.environ.get("POLICYD_SEED", "1"))
PAUSE_SECONDS = (0.05, 0.6)
CLIENTS = 8
ANSWER_SECONDS = 5.0
RECOVERY_SECONDS = 15.0
LONGEST_SECONDS = 1800.0

WEBAPP = "books/webapp:80"
PROXIES = ("traffic-0", "webapp-0", "books-0", "authors-0", "database-0")
RIGHT = {
    ("GET", "/books"): 200,
    ("GET", "/authors"): 200,
    ("DELETE", "/books/1"): 403,
    ("GET", "/nowhere"): 404,
}
# What is allowed goes through two applications, and costs most of the time.
SHARES = (1, 1, 9, 9)
UNAVAILABLE = {502, 504}
# An application's own word for a database that isn't there. A proxy's 503 has a decision, and would be wrong.
APPLICATION_UNAVAILABLE = 503


@dataclass
class Seen:
    """What clients were answered."""

    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, method: str, path: str, status: int, decision: str) -> None:
        self.answers[method, path, status] += 1
        if status == RIGHT[method, path]:
            self.answered.set()
        elif status not in UNAVAILABLE and not (status == APPLICATION_UNAVAILABLE and not decision):
            self.wrong.append(f"{method} {path}: {status} {decision}")


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: tuple[str, str]
) -> tuple[int, str]:
    writer.write(f"{what[0]} {what[1]} HTTP/1.1\r\nHost: books.test\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    body = await reader.readexactly(int(fields["content-length"]))
    decided = "x-policyd-decision" in fields
    return int(head.split(" ", 2)[1]), body.decode(errors="replace") if decided else ""


async def _client(address: tuple[str, int], seen: Seen, number: int) -> None:
    """Ask on one connection for as long as it lives, then on another."""
    choose = random.Random(SEED + number)
    while True:
        writer = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(*address)
            while True:
                (what,) = choose.choices(list(RIGHT), SHARES)
                async with asyncio.timeout(ANSWER_SECONDS):
                    seen.note(*what, *await _ask(reader, writer, what))
        except (OSError, EOFError, TimeoutError):
            seen.unanswered += 1
            await asyncio.sleep(0.005)  # who is refused at once doesn't hammer
        finally:
            if writer is not None:
                writer.transport.abort()


async def _kill(child: Child) -> None:
    """Kill it wherever it is in its work; it is started again at once."""
    pid = child.pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    await child.stop()
    child.start()


async def _recovery(seen: Seen) -> float:
    """Wait for the next right answer; the milliseconds that it took."""
    began = time.monotonic()
    seen.answered.clear()
    async with asyncio.timeout(RECOVERY_SECONDS):
        await seen.answered.wait()
    return (time.monotonic() - began) * 1000


@pytest.mark.promise("P-1")
@pytest.mark.promise("P-2")
async def test_p_1_kills_at_random_moments_change_no_verdict(mesh: Mesh) -> None:
    moments = random.Random(SEED)
    plane = mesh.up.control_plane
    victims = {name: mesh.pod(name).proxy for name in PROXIES}
    victims |= {name: plane.child(name) for name in ("policyd", "identity")}
    seen, kills, recoveries = Seen(), Counter[str](), list[float]()
    address = mesh.listener("traffic-0", WEBAPP)
    clients = [asyncio.create_task(_client(address, seen, number)) for number in range(CLIENTS)]
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while kills.total() < KILLS or seen.answers.total() < REQUESTS:
                await asyncio.sleep(moments.uniform(*PAUSE_SECONDS))  # the moment is the point
                if kills.total() < KILLS:
                    victim = moments.choice(list(victims))
                    await _kill(victims[victim])
                    kills[victim] += 1
                    recoveries.append(await _recovery(seen))
                assert not seen.wrong
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        mesh.forget_records()
    assert not seen.wrong
    for (method, path), status in RIGHT.items():
        assert seen.answers[method, path, status] > REQUESTS // 50, seen.answers
    recoveries.sort()
    print(  # noqa: T201 — how much of it there was
        f"\nkills {dict(kills)}; answers {seen.answers.total()}, unanswered {seen.unanswered},"
        f" unavailable {sum(n for (_, _, status), n in seen.answers.items() if status in UNAVAILABLE)};"
        f" until the next right answer: median {recoveries[len(recoveries) // 2]:.0f} ms,"
        f" worst {recoveries[-1]:.0f} ms"
    )
