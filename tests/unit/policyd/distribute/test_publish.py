"""When streams are woken: at once, but for what can only grant more (design §8)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from policyd.distribute import publish
from policyd.distribute.grants import only_grants
from policyd.distribute.merged import Merged
from policyd.distribute.publish import MOST_STREAMS_PER_POD, Publisher
from policyd.sources.events import Added, AnyObject, Batch, Deleted, Updated
from policyd.sources.files import load

ALLOW = """
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: s}
  requiredAuthenticationRefs: []
"""


class Listener:
    def __init__(self, pod_key: str = "pod") -> None:
        self.pod_key = pod_key
        self.woken = asyncio.Event()
        self.count = 0

    def wake(self) -> None:
        self.count += 1
        self.woken.set()


def _read(folder: Path, text: str) -> AnyObject:
    (folder / "o.yaml").write_text(text)
    (found,) = load([folder]).objects
    return found


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        (("", ""), True),
        (("spec:", "spec:\n  action: Allow"), True),
        (("spec:", "spec:\n  action: Deny"), False),
        (("spec:", "spec:\n  mode: Audit"), False),
        (("spec:", "spec:\n  unknown: 1"), False),
        (("AuthorizationPolicy", "MeshTLSAuthentication"), False),
    ],
)
def test_what_is_only_a_grant(tmp_path: Path, change: tuple[str, str], waits: bool) -> None:
    found = _read(tmp_path, ALLOW.replace(*change) if change[0] else ALLOW)
    assert only_grants(Batch(1, (Added(found),))) is waits
    assert not only_grants(Batch(1, (Updated(found),)))
    assert not only_grants(Batch(1, (Added(found), Deleted(found.key))))
    assert not only_grants(Batch(1))


async def test_grants_wait_and_a_removal_takes_them_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "GRANTS_WAIT_SECONDS", 3600)
    found = _read(tmp_path, ALLOW)
    grant, removal = Batch(1, (Added(found),)), Batch(2, (Deleted(found.key),))
    publisher, listener = Publisher(), Listener()
    publisher.enrol(listener)
    publisher.announce(grant)
    assert listener.count == 1, "the first never waits"
    publisher.announce(grant)
    publisher.announce(grant)
    assert (listener.count, publisher.is_settled) == (1, False)
    publisher.announce(removal)
    assert (listener.count, publisher.is_settled) == (2, True)


async def test_grants_that_wait_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "GRANTS_WAIT_SECONDS", 0.05)
    grant = Batch(1, (Added(_read(tmp_path, ALLOW)),))
    publisher, listener = Publisher(), Listener()
    publisher.enrol(listener)
    publisher.announce(grant)
    listener.woken.clear()
    for _ in range(100):
        publisher.announce(grant)
    await asyncio.wait_for(listener.woken.wait(), 5)
    assert listener.count == 2


async def test_a_pod_can_have_a_few_streams() -> None:
    publisher = Publisher()
    held = [Listener() for _ in range(MOST_STREAMS_PER_POD)]
    for each in held:
        publisher.enrol(each)
    with pytest.raises(GRPCError, match="TOO_MANY_STREAMS"):
        publisher.enrol(Listener())
    publisher.enrol(Listener("another"))
    publisher.leave(held[0])
    publisher.enrol(Listener())


def test_of_an_object_in_two_folders_the_first_counts(tmp_path: Path) -> None:
    one = _read(tmp_path, ALLOW)
    other = _read(tmp_path, ALLOW.replace("name: s}", "name: t}"))
    merged = Merged(2)
    assert merged.take(1, Batch(1, (Added(other),))) == [(one.key, other)]
    assert merged.take(0, Batch(1, (Added(one),))) == [(one.key, one)]
    assert merged.take(1, Batch(2, (Deleted(one.key),))) == [(one.key, one)]
    assert merged.take(0, Batch(2, (Deleted(one.key),))) == [(one.key, None)]
