"""Another process in the place of one of the mesh: newer, on another disk, with another clock."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import pytest

from policyd.up.process import Child, Command

MOUNT = ("unshare", "--map-root-user", "--mount", "sh", "-c")
# What lies in the folder is copied onto a disk of its own, which only this process sees; it ends with it.
SMALL_DISK = (
    'set -e; folder=$1 size=$2; shift 2; kept=$(mktemp -d); cp -a "$folder/." "$kept"; '
    'mount -t tmpfs -o "size=$size,mode=700" tmpfs "$folder"; cp -a "$kept/." "$folder"; '
    'rm -r "$kept"; exec "$@"'
)
READ_ONLY = (
    'set -e; folder=$1; shift; mount --bind "$folder" "$folder"; '
    'mount -o remount,ro,bind "$folder"; exec "$@"'
)


@asynccontextmanager
async def instead(
    child: Child, words: Sequence[str], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run other words in the place of a child while the block lasts."""
    command = child.command
    other = child.like(Command(words, {**command.environment, **(environment or {})}, command.folder))
    await child.stop()
    other.start()
    try:
        yield other
    finally:
        await other.stop()
        child.start()


def on_a_small_disk(child: Child, folder: Path, size: str) -> list[str]:
    """The child's words, with a folder of it on a disk of that size."""
    needs_mounts()
    return [*MOUNT, SMALL_DISK, "sh", str(folder), size, *child.command.words]


def on_a_read_only_disk(child: Child, folder: Path) -> list[str]:
    """The child's words, with a folder of it that can't be written."""
    needs_mounts()
    return [*MOUNT, READ_ONLY, "sh", str(folder), *child.command.words]


def inside(child: Child, path: Path) -> Path:
    """The path as the child sees it."""
    return Path(f"/proc/{child.pid}/root{path}")


def fill(child: Child, folder: Path) -> Path:
    """Fill the disk of a folder of the child, to the last byte; the file that does it."""
    filler = inside(child, folder) / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def needs_mounts() -> None:
    """Skip, loudly, where a process may not have a disk of its own."""
    problem = _mount_problem()
    if problem:
        pytest.skip(f"FAULT NOT TRIED: a disk of one process can't be made here: {problem}")


@cache
def _mount_problem() -> str:
    try:
        tried = subprocess.run(
            [*MOUNT, "mount -t tmpfs tmpfs /tmp"], capture_output=True, text=True, timeout=10, check=False
        )
    except OSError as error:
        return str(error)
    return tried.stderr.strip() if tried.returncode else ""


def faketime_library() -> Path:
    """libfaketime, as `make faketime` gets it; skips, loudly, without it."""
    found = sorted((Path(__file__).parents[2] / "build" / "faketime").rglob("libfaketimeMT.so.1"))
    if not found:
        pytest.skip("FAULT NOT TRIED: libfaketime isn't there: `make faketime` gets it on Debian")
    return found[0]


def with_clock(file: Path) -> dict[str, str]:
    """The environment of a process whose clock is off by what a file says, for instance `+25h`.

    Its monotonic clock isn't.
    """
    return {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
        "TZ": os.environ.get("TZ", "UTC"),
    }
