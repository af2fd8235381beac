"""Where the programs are that are measured, and those measured with."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENVOY_VERSION = "1.40.0"
_TREE = Path(__file__).parents[2]
PEERS = _TREE / "build" / "peers"


@dataclass(frozen=True, slots=True)
class Program:
    """A program and what it needs in its environment."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment to run it in."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return kept | dict(self.environment)


def envoy() -> Program | None:
    """Return Envoy, if `make bench-peers` got it or it is on PATH."""
    found = PEERS / "venv" / "bin" / "envoy"
    path = str(found) if os.access(found, os.X_OK) else shutil.which("envoy")
    return None if path is None else Program(Path(path))


def haproxy() -> Program | None:
    """Return HAProxy, likewise; unpacked packages bring their libraries."""
    found = PEERS / "haproxy" / "usr" / "sbin" / "haproxy"
    if os.access(found, os.X_OK):
        libraries = sorted((PEERS / "haproxy" / "usr" / "lib").glob("*-linux-gnu"))
        return Program(found, {"LD_LIBRARY_PATH": ":".join(map(str, libraries))})
    path = shutil.which("haproxy")
    return None if path is None else Program(Path(path))


def policyd_proxy() -> Program:
    """Return the release build, `$POLICYD_BENCH_PROXY` or made now: what is shipped is what is measured."""
    named = os.environ.get("POLICYD_BENCH_PROXY")
    if named:
        return Program(Path(named))
    return Program(_build("policyd-proxy", "--package", "dataplane", "--bin", "policyd-proxy"))


def load() -> Program:
    """Return the load, made now where it isn't there."""
    named = os.environ.get("POLICYD_BENCH_LOAD")
    if named:
        return Program(Path(named))
    manifest = _TREE / "bench" / "load" / "Cargo.toml"
    return Program(_build("load", "--manifest-path", str(manifest)))


def _build(name: str, *arguments: str) -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", _TREE / "target"))
    words = ["cargo", "build", "--release", "--locked", "--quiet", *arguments]
    subprocess.run(words, check=True, env=os.environ | {"CARGO_TARGET_DIR": str(target)})  # noqa: S603
    return target / "release" / name
