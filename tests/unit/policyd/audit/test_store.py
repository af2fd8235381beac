"""What is kept, what is refused, what is found again."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyd.audit import committing
from policyd.audit.asks import answer
from policyd.audit.chain import Head
from policyd.audit.schema import DATABASE, HEADS
from policyd.audit.sqlite import SqliteStore
from policyd.audit.store import Content, Filter
from policyd.errors import ChainRefused, StoreUnavailable

from .conftest import WAIT_SECONDS, Chain, Opener, deliver, denial, identifier, until


def refused(store: SqliteStore, chain: Chain, links: Any) -> str:
    with pytest.raises(ChainRefused) as caught:
        store.append(chain.writer, chain.name, links).result(WAIT_SECONDS)
    return caught.value.code


def kept(store: SqliteStore) -> list[bytes]:
    events = ("denial", "would_deny", "lost", "chain", "unreadable")
    return [row["json"] for row in store.records(Filter(events=events), 1000)]


def test_the_bytes_that_came_are_the_bytes_that_are_kept(store: SqliteStore, chain: Chain) -> None:
    odd = b'{ "event":"denial",  "id":"01a1fe07-f652-756d-957a-be7361fdcbd5", "new": [1e3] }'
    assert deliver(store, chain, odd, denial(1)) == 2
    assert kept(store) == [odd, chain.links[1].json]
    assert store.find("01a1fe07")[0]["json"] == odd


def test_folder_and_files_are_for_nobody_else(store: SqliteStore, chain: Chain, tmp_path: Path) -> None:
    deliver(store, chain, denial())
    folder = tmp_path / "audit"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert modes.pop("audit") == 0o700
    assert {DATABASE, HEADS} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_folder_that_others_may_enter_is_not_used(opened: Opener, tmp_path: Path, chain: Chain) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    store = opened(tmp_path / "open")
    with pytest.raises(StoreUnavailable, match="0700"):
        deliver(store, chain, denial())
    assert "0700" in str(store.standing.problem)


def test_a_delivery_that_comes_again_is_kept_once(store: SqliteStore, chain: Chain) -> None:
    deliver(store, chain, *(denial(number) for number in range(5)))
    again = store.append(chain.writer, chain.name, chain.links).result(WAIT_SECONDS)
    chain.add(denial(5))
    overlapping = store.append(chain.writer, chain.name, chain.links[3:]).result(WAIT_SECONDS)
    assert (again, overlapping, len(kept(store))) == (5, 6, 6)
    assert store.standing.records == 6


def test_two_streams_of_one_chain_at_once(store: SqliteStore, chain: Chain) -> None:
    """A proxy that connects again while its old stream lingers."""
    links = chain.add(*(denial(number) for number in range(50)))
    futures: list[Future[int]] = []

    def send() -> None:
        futures.extend(store.append(chain.writer, chain.name, links[:end]) for end in range(1, 51))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {future.result(WAIT_SECONDS) for future in futures} <= set(range(1, 51))
    assert len(kept(store)) == 50


@pytest.mark.parametrize("fault", ["gap", "hash", "second first", "other bytes"])
def test_what_does_not_follow_ends_the_chain(store: SqliteStore, chain: Chain, fault: str) -> None:
    deliver(store, chain, denial(0), denial(1))
    chain.add(denial(2), denial(3))
    links = {
        "gap": chain.links[3:],
        "hash": [replace(chain.links[2], previous=bytes(32))],
        "second first": [replace(chain.links[0], json=b'{"event": "denial"}')],
        "other bytes": [replace(chain.links[1], json=b'{"event": "denial"}')],
    }[fault]
    assert refused(store, chain, links) == "CHAIN_BROKEN"
    assert refused(store, chain, chain.links[2:]) == "CHAIN_BROKEN", "a refused chain stays refused"
    assert len(kept(store)) == 2
    with pytest.raises(ChainRefused):
        store.greet(chain.writer, chain.name, chain.head(2)).result(WAIT_SECONDS)
    after = Chain()
    assert deliver(store, after, {"event": "chain", "after": chain.name.hex()}, denial(2)) == 2


@pytest.mark.parametrize(
    "foreign",
    [{"namespace": "bank"}, {"pod": "cart-1"}, {"workload": "deployment/bank/vault"}, {"event": "table"}],
)
def test_a_record_about_somebody_else_is_refused_with_its_chain(
    store: SqliteStore, chain: Chain, foreign: dict[str, str]
) -> None:
    assert refused(store, chain, chain.add(denial(), denial(1, **foreign))) == "WRONG_WRITER"
    assert kept(store) == []


def test_a_chain_of_somebody_else(store: SqliteStore, chain: Chain) -> None:
    deliver(store, chain, denial())
    other = replace(chain.writer, pod_uid="uid-2")
    with pytest.raises(ChainRefused, match="WRONG_WRITER"):
        store.greet(other, chain.name, Head()).result(WAIT_SECONDS)
    with pytest.raises(ChainRefused, match="WRONG_WRITER"):
        store.append(other, chain.name, chain.add(denial(1))).result(WAIT_SECONDS)


def test_a_greeting_says_up_to_where_it_is_kept(store: SqliteStore, chain: Chain) -> None:
    assert store.greet(chain.writer, chain.name, Head()).result(WAIT_SECONDS) == 0
    deliver(store, chain, denial(), denial(1))
    assert store.greet(chain.writer, chain.name, chain.head(1)).result(WAIT_SECONDS) == 2


@pytest.mark.parametrize("said", ["beyond the end", "another record", "an unknown chain"])
def test_what_a_returning_writer_knows_and_the_store_does_not(
    store: SqliteStore, chain: Chain, said: str
) -> None:
    deliver(store, chain, denial(), denial(1))
    greeting = {
        "beyond the end": (chain.name, Head(3, bytes(32))),
        "another record": (chain.name, Head(2, bytes(32))),
        "an unknown chain": (bytes(16), Head(1, bytes(32))),
    }[said]
    with pytest.raises(ChainRefused, match="ROLLED_BACK"):
        store.greet(chain.writer, *greeting).result(WAIT_SECONDS)
    until(lambda: store.standing.rolled_back == 1)


def test_au_05_hostile_bytes_are_one_entry_each(store: SqliteStore, chain: Chain) -> None:
    hostile: list[dict[str, Any] | bytes] = [
        denial(1, detail="line\nbreak\u0000\u001b]0;x\u0007"),
        denial(2, request={"method": "G\u001b[31m", "path": "/" + "a" * 60_000}),
        b"\xff\xfe not json",
        b'{"event": "denial", "id": "\\ud800"}',
        b'{"event": ["denial"], "port": 1e400}',
        b"",
        b'{"event": "denial", "port": 99999999999999999999999999, "time": "9999-99-99"}',
    ]
    assert deliver(store, chain, *hostile) == 7
    assert kept(store) == [link.json for link in chain.links]
    assert len(store.find(identifier(2))[0]["path"]) == 512
    assert sum(row["event"] == "unreadable" for row in store.gaps(Filter())) >= 4


def test_ids_are_found_by_their_beginning(store: SqliteStore, chain: Chain) -> None:
    deliver(store, chain, denial(1), denial(2), denial(3, millis=1_000_000_000_000))
    assert [row["id"] for row in store.find(identifier(1))] == [identifier(1)]
    assert [row["id"] for row in store.find(identifier(1)[:8].upper())] == [identifier(1), identifier(2)]
    assert store.find("no such thing") == []
    assert store.find("%") == []
    assert store.find("00000000") == []


def test_a_thousand_equal_denials_are_one_row(store: SqliteStore, chain: Chain) -> None:
    deliver(store, chain, *(denial(number) for number in range(1000)))
    deliver(store, chain, denial(2000, reason="explicit_deny", authorization="a/shop/b"))
    groups = store.groups(Filter(), 10)
    assert [(row["denials"], row["reason"]) for row in groups] == [
        (1000, "no_matching_rule"),
        (1, "explicit_deny"),
    ]
    first = groups[0]
    assert (first["first"], first["last"], first["example"]) == (
        1_795_262_400_000,
        1_795_262_400_999,
        identifier(999),
    )


def test_what_comes_again_in_another_chain_is_counted_once(store: SqliteStore, chain: Chain) -> None:
    """A writer whose chain was refused delivers again what it doesn't know to be kept."""
    deliver(store, chain, denial(1), denial(2))
    deliver(store, Chain(chain.writer), {"event": "chain", "after": "x:1"}, denial(2), denial(3))
    (group,) = store.groups(Filter(), 10)
    assert (group["denials"], group["example"]) == (3, identifier(3))
    listed = answer(store, {"ask": "denials", "by": "record"})["denials"]
    assert [record["id"] for record in listed] == [identifier(1), identifier(2), identifier(3)]


def test_filters(store: SqliteStore, chain: Chain) -> None:
    would = {
        "event": "would_deny",
        "audit": {"verdict": "deny", "reason": "explicit_deny", "authorizations": ["x"]},
    }
    anonymous = {"peer": {"ip": "10.9.9.9", "identity": None}}
    deliver(
        store, chain, denial(0), denial(1, **would), denial(2, **anonymous), denial(3, reason="no_identity")
    )
    deliver(store, chain, {"event": "lost", "count": 7, "reason": "spool_full"}, denial(4, millis=1))

    def found(**wanted: Any) -> list[str]:
        return [row["id"] for row in store.records(Filter(**wanted), 100)]

    base = 1_795_262_400_000
    assert found(since=base) == [identifier(0), identifier(2), identifier(3)]
    assert found(until=base + 1) == [identifier(0), identifier(4, 1)]
    assert found(peer="shop/web", reason="no_identity") == [identifier(3)]
    assert found(peer="spiffe://test/ns/shop/sa/web", since=base + 3) == [identifier(3)]
    assert found(peer="10.9.9.9") == [identifier(2)]
    assert found(events=("would_deny",), reason="explicit_deny") == [identifier(1)]
    assert found(namespace="bank") == found(workload="deployment/shop/other") == []
    assert [(row["event"], row["count"]) for row in store.gaps(Filter())] == [("lost", 7)]
    assert store.standing.lost == 7


def test_what_comes_later_is_found_by_its_place(store: SqliteStore, chain: Chain) -> None:
    deliver(store, chain, denial(0))
    seen = store.last_place()
    deliver(store, chain, denial(1), denial(2))
    assert [row["id"] for row in store.records(Filter(after=seen), 10)] == [
        identifier(1),
        identifier(2),
    ]


def test_tables_are_kept_by_their_hash_and_found_by_workload(store: SqliteStore) -> None:
    store.keep([Content("table", "sha256:1", b"one"), Content("table", "sha256:1", b"one")])
    for millis, version in ((2, "sha256:1"), (1, "sha256:0")):
        table = {"event": "table", "workload": "deployment/a/b", "table": version}
        store.note(json.dumps({**table, "time": f"2026-01-01T00:00:0{millis}Z"}).encode())
    until(lambda: store.standing.problem is None and len(store.tables("deployment/a/b", 10)) == 2)
    assert store.content("sha256:1") == b"one"
    assert store.content("sha256:2") is None
    assert [row["table_version"] for row in store.tables("deployment/a/b", 10)] == ["sha256:1", "sha256:0"]
    assert store.tables("deployment/a/c", 10) == []


def test_a_chain_goes_on_after_a_restart(opened: Opener, chain: Chain) -> None:
    first = opened()
    deliver(first, chain, denial(0))
    first.close()
    second = opened()
    assert second.greet(chain.writer, chain.name, chain.head(1)).result(WAIT_SECONDS) == 1
    assert deliver(second, chain, denial(1)) == 2


def test_a_database_of_a_newer_policyd_is_left_alone(opened: Opener, tmp_path: Path, chain: Chain) -> None:
    opened().close()
    with sqlite3.connect(tmp_path / "audit" / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="schema 99"):
        deliver(opened(), chain, denial())


def test_who_comes_when_too_much_waits_is_told(opened: Opener, chain: Chain, monkeypatch: Any) -> None:
    monkeypatch.setattr(committing, "MOST_JOBS", 2)
    store = SqliteStore(Path("/nowhere"), chain.writer, None)  # type: ignore[arg-type]  # never started
    for number in range(2):
        store.append(chain.writer, chain.name, chain.add(denial(number)))
    with pytest.raises(StoreUnavailable, match="too much waits"):
        store.append(chain.writer, chain.name, chain.add(denial(3))).result(WAIT_SECONDS)
