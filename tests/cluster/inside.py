"""The first process in the node's namespaces: makes its network, runs one command, and reaps.

The network has no way out: a bridge without ports is the node's interface, and all else is a black hole.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster import needs
from tests.cluster.place import NODE_ADDRESS
from tests.cluster.report import FOLDER


def main(folder: Path, words: list[str]) -> int:
    """Set up, run, and end; returns the command's exit code."""
    _mounts(folder)
    _network()
    os.environ[FOLDER] = str(folder)
    return _reap(subprocess.Popen(_command(words), cwd=needs.ROOT))


def _command(words: list[str]) -> list[str]:
    kind, *rest = words
    if kind == "test":
        # One report for each test, as it ends: a run is long.
        return [sys.executable, "-m", "pytest", "-v", "-s", "--durations=15", *(rest or ["tests/cluster"])]
    return [sys.executable, "-m", "tests.cluster.up", *rest]


def _mounts(folder: Path) -> None:
    """Give what programs write at fixed places a place of its own, seen by nobody else."""
    needs.run("mount", "-t", "tmpfs", "tmpfs", "/run")
    (Path("/run") / "lock").mkdir()
    for place in ("/var/log", "/var/lib"):
        upper, work = (
            folder / "over" / place.strip("/") / "upper",
            folder / "over" / place.strip("/") / "work",
        )
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        options = f"lowerdir={place},upperdir={upper},workdir={work}"
        needs.run("mount", "-t", "overlay", "overlay", "-o", options, place)


def _network() -> None:
    needs.run("ip", "link", "set", "lo", "up")
    needs.run("ip", "link", "add", "node0", "type", "bridge")
    needs.run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", "node0")
    needs.run("ip", "link", "set", "node0", "up")
    needs.run("ip", "route", "add", "blackhole", "default")
    needs.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    # Answers between two pods of one bridge pass where Services' addresses are put back.
    needs.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for the command; containers' shims, which nobody else waits for, become children of ours."""
    while True:
        try:
            pid, status = os.wait()
        except KeyboardInterrupt:
            continue
        if pid == process.pid:
            return os.waitstatus_to_exitcode(status) % 256


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
