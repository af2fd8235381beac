"""What keeps identity from starting is one line that says what to do."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.process.identity_process import World, command, serving

Spoil = Callable[[World], dict[str, Any]]


def chmod_key(world: World) -> dict[str, Any]:
    (world.root / "root.key").chmod(0o644)
    return {}


def no_jwks(world: World) -> dict[str, Any]:
    (world.folder / "jwks.json").unlink()
    return {}


FAULTS: dict[str, tuple[Spoil, str]] = {
    "no issuer": (lambda w: {"issuerFolder": str(w.folder / "none")}, "give identity a root or issuer"),
    "no issuer configured": (lambda w: {"issuerFolder": ...}, "issuerFolder: Field required"),
    "key for all": (chmod_key, "chmod 600"),
    "unknown key": (lambda w: {"issuerFolders": "x"}, "issuerFolders"),
    "no jwks": (no_jwks, "jwks.json: No such file"),
    "neither tokens nor cluster": (lambda w: {"tokens": ...}, "either tokens, checked by a file of keys, or"),
    "cluster beside pods": (
        lambda w: {"tokens": ..., "cluster": {"audience": "a"}},
        "neither podsFolder nor withoutPods beside cluster",
    ),
    "no cluster": (
        lambda w: {"tokens": ..., "podsFolder": ..., "cluster": {"audience": "a"}},
        "this is no pod",
    ),
    "neither pods nor without": (lambda w: {"podsFolder": None}, "either podsFolder, or withoutPods"),
    "both": (lambda w: {"withoutPods": True}, "either podsFolder, or withoutPods"),
    "listen without port": (lambda w: {"listen": "127.0.0.1"}, "expected host:port"),
    "foreign address": (lambda w: {"listen": "192.0.2.1:9443"}, "not an address of this machine"),
    "leaf for a year": (lambda w: {"leafLifetime": "8760h"}, "expected 10s to 24h"),
    "no duration": (lambda w: {"leafLifetime": "1 day"}, "expected a duration"),
    "trust domain": (lambda w: {"trustDomain": "Cluster.Local"}, "trustDomain"),
    "another trust domain's root": (lambda w: {"trustDomain": "other"}, "expected spiffe://other"),
    "journal in no folder": (lambda w: {"journal": str(w.folder / "none" / "j")}, "No such file"),
}


def start(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, *more), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("what", FAULTS)
def test_id_11_a_fault_is_one_line(what: str, tmp_path: Path) -> None:
    spoil, expected = FAULTS[what]
    world = World(tmp_path)
    done = start(world.configure(**spoil(world)))
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("identity: ")
    assert expected in line


def test_a_port_in_use_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = start(World(tmp_path).configure(listen=address))
    assert done.stderr.splitlines() == [
        f"identity: listen {address}: in use; stop what listens there or choose another port"
    ]


def test_broken_or_ambiguous_configuration_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    for content in ("", "{", "[]", '{"listen": "a:1", "listen": "b:1"}', "\xff", "[" * 100_000):
        path.write_text(content, "latin-1")
        done = start(path)
        assert (done.returncode, len(done.stderr.splitlines()) >= 1) == (2, True)
        assert "Traceback" not in done.stderr
        assert str(path) in done.stderr


def test_debug_shows_where(tmp_path: Path) -> None:
    done = start(tmp_path / "none.json", "--debug")
    assert "Traceback" in done.stderr


def test_one_journal_has_one_writer(tmp_path: Path) -> None:
    world = World(tmp_path)
    with serving(world):
        done = start(world.configure())
    assert "another process writes it" in done.stderr
