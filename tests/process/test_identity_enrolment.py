"""How a process of the control plane gets its own certificate, from a real identity."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity.material import create_root
from identity.spiffe_id import SpiffeId
from servicekit.channel import PeerError
from servicekit.renewal import Enrolment, SvidSource
from servicekit.svid import Svid, SvidError, TrustBundles
from tests.process.identity_process import SERVER_ID, TRUST_DOMAIN, WAIT_SECONDS, Running, World, serving

WEB = SpiffeId.of_service_account(TRUST_DOMAIN, "emojivoto", "web")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(World(tmp_path), leafLifetime="10s") as one:
        yield one


def enrolment(running: Running, own: SpiffeId = WEB, server: SpiffeId = SERVER_ID) -> Enrolment:
    token = running.world.folder / "token"
    token.write_text(running.world.token() + "\n")
    return Enrolment(own, server, "127.0.0.1", running.port, token, running.world.root / "root.crt")


async def test_it_renews_before_the_end_with_a_new_key_and_follows_the_bundles(running: Running) -> None:
    changes: asyncio.Queue[tuple[Svid, TrustBundles]] = asyncio.Queue()
    source = SvidSource(enrolment(running), lambda *both: changes.put_nowait(both))
    first, bundles = await source.obtain()
    assert (first.identity, first.pod_uid) == (WEB, "uid-1")
    assert await changes.get() == (first, bundles) == source.current
    follower = asyncio.create_task(source.run())
    second, _ = await asyncio.wait_for(changes.get(), WAIT_SECONDS)
    assert second.not_after > first.not_after
    assert second.load_key().public_key() != first.load_key().public_key()
    world = running.world
    create_root(world.folder / "next", TRUST_DOMAIN)
    both = (world.folder / "next" / "root.crt").read_bytes() + (world.root / "root.crt").read_bytes()
    (world.root / ".new").write_bytes(both)
    (world.root / ".new").rename(world.root / "root.crt")
    while len(bundles.of(TRUST_DOMAIN)) < 2:
        _, bundles = await asyncio.wait_for(changes.get(), WAIT_SECONDS)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    kinds = [line["kind"] for line in world.lines() if line.get("podUID") == "uid-1"]
    assert kinds[:2] == ["first", "renewal"]


async def test_the_token_stays_here_where_the_server_is_another(running: Running) -> None:
    other = SpiffeId.of_service_account(TRUST_DOMAIN, "policyd", "policyd")
    source = SvidSource(enrolment(running, server=other), lambda *_: None)
    with pytest.raises(PeerError, match=f"expected {other}"):
        await source.obtain()
    assert all(line.get("kind") == "own" for line in running.world.lines())


async def test_a_server_of_another_root_is_not_believed(running: Running) -> None:
    create_root(running.world.folder / "other", TRUST_DOMAIN)
    asked = enrolment(running)
    wrong = Enrolment(
        asked.own,
        asked.identity,
        asked.host,
        asked.port,
        asked.token_file,
        running.world.folder / "other" / "root.crt",
    )
    with pytest.raises(OSError, match=r"(?i)verify"):
        await SvidSource(wrong, lambda *_: None).obtain()


async def test_a_certificate_for_another_identity_is_refused(running: Running) -> None:
    own = SpiffeId.of_service_account(TRUST_DOMAIN, "emojivoto", "someone-else")
    with pytest.raises(SvidError, match="expected spiffe"):
        await SvidSource(enrolment(running, own=own), lambda *_: None).obtain()
