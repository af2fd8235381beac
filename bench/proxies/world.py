"""A run of identity and policyd around one set of rules, with everything the proxies need."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from bench.proxies import programs
from bench.proxies.certificates import Issuer
from bench.proxies.envoy import Envoy
from bench.proxies.haproxy import HaProxy
from bench.proxies.load import application
from bench.proxies.manifests import PORT, write_manifests
from bench.proxies.model import CLIENT, SERVER, TRUST_DOMAIN
from bench.proxies.place import Cores, Place
from bench.proxies.policyd import PolicydProxy
from bench.proxies.subject import Subject
from policyd.up import control_plane
from policyd.up.addresses import free_range
from policyd.up.control_plane import ControlPlane
from policyd.up.run_folder import RunFolder
from policyd.up.screen import Screen

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 — a folder of our own is made in it
_ANSWER_BYTES = 1024
_START_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class World:
    """Ready for measurements."""

    place: Place
    subjects: tuple[Subject, ...]


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder in memory, gone when the block ends: what is written to it costs all proxies the same."""
    base = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="bench-", dir=base) as name:
        yield Path(name)


@asynccontextmanager
async def world(folder: Path, rules: int, cores: Cores, load: programs.Program) -> AsyncIterator[World]:
    """Start the control plane and the application; both share the core that isn't the proxy's."""
    write_manifests(folder / "manifests", rules)
    with patch.dict(os.environ, XDG_RUNTIME_DIR=str(folder)):
        run = RunFolder()
    addresses = free_range()
    server, client = addresses.next_pod(), addresses.next_pod()
    screen = io.StringIO()
    plane = ControlPlane(run, addresses, TRUST_DOMAIN.name, folder / "manifests")
    own = PolicydProxy(programs.policyd_proxy(), plane, run.pods)
    try:
        # Ten thousand rules take longer to read than anybody would wait for `policyctl up`.
        with patch.object(control_plane, "START_SECONDS", _START_SECONDS):
            await plane.start(Screen(verbose=True, stream=screen), lambda _name, _record: None)
        issuer = Issuer(run.root, folder)
        place = Place(
            folder, rules, server, client, plane.roots_file, issuer.issue(SERVER), issuer.issue(CLIENT)
        )
        own.write_pods(place)
        with application(load, f"{server.application}:{PORT}", _ANSWER_BYTES, cores.rest):
            yield World(place, (own, Envoy(matcher=False), Envoy(matcher=True), HaProxy()))
    except BaseException:
        print(screen.getvalue()[-4000:])  # noqa: T201 — what the control plane said before it
        raise
    finally:
        await plane.stop()
        run.remove()
