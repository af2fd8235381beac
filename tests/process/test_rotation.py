"""A root is replaced under load: both are trusted for a while, then the old one is nothing (promise P-18).

Certificates live for half a minute here, so that all are renewed under the new root while the test lasts.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity.material import create_root
from identity.spiffe_id import TrustDomain
from policyd.up.control_plane import ControlPlane
from servicekit.svid import Svid

from . import quick
from .load import Way, ask, loading
from .mesh import Mesh, http, tls

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P-18")]

LIFETIME = "30s"
RENEWED_SECONDS = 40.0
TAKEN_UP_SECONDS = 15.0
REMOVED_SECONDS = 60.0
"""Promise P-18: how long an old root may be usable after its removal."""


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Iterator[Path]:
    """The books with the quick one among them; identity's certificates are short."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST)
    as_it_is = ControlPlane._identity_settings

    def short(plane: ControlPlane) -> dict[str, object]:
        return {**as_it_is(plane), "leafLifetime": LIFETIME}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ControlPlane, "_identity_settings", short)
        yield manifests


def _replace(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.touch(mode=file.stat().st_mode & 0o777)
    new.write_bytes(content)
    new.replace(file)


def _trust(mesh: Mesh, *roots: Path) -> None:
    """Give identity these roots to trust, and to processes that start."""
    pem = b"".join((root / "root.crt").read_bytes() for root in roots)
    _replace(mesh.up.run.root / "root.crt", pem)
    _replace(mesh.up.control_plane.roots_file, pem)


def _svid(mesh: Mesh, root: Path) -> Svid:
    return mesh.svid("books/traffic", mesh.pod("traffic-0").uid, root=root)


async def _status(mesh: Mesh, svid: Svid) -> int:
    """Of a friend's request with that certificate; 0 where there was no answer."""
    return (await http(mesh.address("quick-0", quick.PORT), "GET", "/friends/1", context=tls(svid))).status


async def _until(mesh: Mesh, svid: Svid, status: int, seconds: float) -> float:
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while await _status(mesh, svid) != status:
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _metric(mesh: Mesh, name: str) -> dict[str, float]:
    """A metric of every proxy, by pod."""
    found: dict[str, float] = {}
    for replica in mesh.up.kubelet.replicas.values():
        text = (await http((replica.addresses.application, 4191), "GET", "/metrics")).body.decode()
        values: list[Any] = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
        found[replica.name] = float(values[0])
    return found


async def _all_renewed(mesh: Mesh, before: dict[str, float], times: int) -> None:
    async with asyncio.timeout(RENEWED_SECONDS * times):
        while True:
            now = await _metric(mesh, "policyd_certificates_total")
            if all(now[pod] >= before[pod] + times for pod in before):
                return
            await asyncio.sleep(0.2)


async def test_p_18_a_root_is_replaced_and_no_handshake_fails(
    mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(mesh.up.run.root, old)
    create_root(new, TrustDomain(mesh.up.trust_domain))
    former, later = _svid(mesh, old), _svid(mesh, new)
    assert await _status(mesh, former) == 200
    assert await _status(mesh, later) == 0
    chain = Way("chain", mesh.listener("traffic-0", "books/webapp:80"), (ask("GET", "/books", 200),))
    failures = await _metric(mesh, "policyd_handshake_failures_total")
    async with asyncio.timeout(240), loading([quick.outbound(mesh), chain], 3, 0.01) as tally:
        _trust(mesh, old, new)
        took_up = await _until(mesh, later, 200, TAKEN_UP_SECONDS)
        assert await _status(mesh, former) == 200
        failures["quick-0"] = (await _metric(mesh, "policyd_handshake_failures_total"))["quick-0"]
        _replace(mesh.up.run.root / "root.key", (new / "root.key").read_bytes())
        # The first may have been asked for before; the second is under the new root for certain.
        await _all_renewed(mesh, await _metric(mesh, "policyd_certificates_total"), 2)
        assert await _metric(mesh, "policyd_handshake_failures_total") == failures
        _trust(mesh, new)
        removed = await _until(mesh, former, 0, REMOVED_SECONDS)
        assert await _status(mesh, later) == 200
        await tally.reaches(tally.total + 300)
    assert not [*tally.wrong, *tally.failed]
    await mesh.up.all_ready(30)
    with capsys.disabled():
        print(  # noqa: T201 — how long it took
            f"\na new root is believed after {took_up:.1f} s, an old one no longer after {removed:.1f} s;"
            f" {tally.total} answers, none failed"
        )
