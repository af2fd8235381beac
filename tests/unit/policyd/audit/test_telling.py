"""What many pods are told at once is kept, all of it: tables, facts, and which table came when."""

from __future__ import annotations

import hashlib

import pytest

from policyd.audit import committing
from policyd.audit.store import Content
from policyd.compile.compiler import Compiler
from policyd.distribute import trail
from policyd.distribute.trail import Telling, Trail
from policyd.index.world import World
from tests.property.neighbours import NEIGHBOUR
from tests.property.test_tenants import their_pod
from tests.property.two_tenants import put, theirs

from .conftest import Opener, until

PODS = 100


def tellings(compiler: Compiler) -> list[Telling]:
    """What each pod is told now, each of another workload."""
    made = []
    for name in compiler.world.workloads.names():
        (member,) = compiler.world.workloads.members(name)
        table = compiler.table_of_member(member.key)
        assert table is not None
        facts = member.key.name.encode()
        kept = Content("facts", f"sha256:{hashlib.sha256(facts).hexdigest()}", facts)
        made.append(Telling(member.uid or "", name.text, member.key, table, kept))
    return made


@pytest.fixture
def compiler() -> Compiler:
    made = Compiler(World())
    put(made, *(their_pod(number) for number in range(PODS)))
    return made


def change(compiler: Compiler, port: int) -> None:
    assert put(compiler, theirs("Server", "s", {"podSelector": {}, "port": port})) == {NEIGHBOUR}


def test_tables_that_all_change_at_once_are_all_kept(
    opened: Opener, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "MOST_JOBS", 8)
    store = opened()
    until(lambda: store.standing.problem is None)
    keeping = Trail(store)
    seen: list[Telling] = []
    for port in (80, 81, 82):
        change(compiler, port)
        now = tellings(compiler)
        for each in now:
            keeping.told(compiler.world, each)
        seen += now
    until(lambda: all(len(store.tables(each.workload, 9)) == 3 for each in now))
    keeping.close()
    told = {each.table.version: each.table.snapshot for each in seen}
    told |= {each.facts.version: each.facts.content for each in seen}
    until(lambda: all(store.content(version) == content for version, content in told.items()))


def test_what_finds_no_room_is_kept_when_its_pod_is_looked_at_again(
    opened: Opener, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "MOST_WAITING", 1)
    store = opened()
    keeping = Trail(store)
    change(compiler, 80)
    now = tellings(compiler)
    until(lambda: store.standing.problem is None)

    def all_kept() -> bool:
        for each in now:
            keeping.told(compiler.world, each)
        return all(len(store.tables(each.workload, 9)) == 1 for each in now)

    until(all_kept)
    keeping.close()
    assert all(store.content(each.table.version) is not None for each in now)
