"""Who last changed a place, and when: from git, else the file's time; in a cluster the field manager."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from policyd.explain.logged import Logged
from policyd.model.origin import Origin
from policyd.resources.instants import rfc3339

GIT_SECONDS = 2
"""How long git is waited for; an explanation without an author is better than none."""


class LastChange(msgspec.Struct, frozen=True):
    """The last change of a place. `author` and `commit` are None where only the file's time is known."""

    place: str
    at: str
    author: str | None = None
    commit: str | None = None
    subject: str | None = None
    operation: str | None = None
    """In a cluster: `Apply` or `Update`."""
    through: str | None = None
    """In a cluster: which GitOps tool keeps the object."""
    logged: Logged | None = None
    """What the API server's audit log tells of it; None where none was looked into."""


def last_change(origin: Origin) -> LastChange | None:
    """Return the last change of a place; None where nobody knows, or its file is gone."""
    if origin.file is None:
        told = origin.authorship
        if told is None:
            return None
        return LastChange(
            origin.text, rfc3339(told.at), told.manager, operation=told.operation, through=told.through
        )
    path = Path(origin.file)
    blamed = _blame(path, origin.line) if origin.line else {}
    if blamed.get("author-time") and not blamed["commit"].startswith("0000000"):
        at = datetime.fromtimestamp(int(blamed["author-time"]), UTC)
        return LastChange(
            origin.text, rfc3339(at), blamed.get("author"), blamed["commit"][:12], blamed.get("summary")
        )
    try:
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
    return LastChange(origin.text, rfc3339(at))


def _blame(path: Path, line: int) -> dict[str, str]:
    """`git blame` of one line, by the names of its porcelain format; empty where git doesn't know."""
    command = ["git", "-C", str(path.parent), "blame", "--porcelain", f"-L{line},{line}", "--", path.name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False)  # noqa: S603  # our own words and a path, no shell
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode:
        return {}
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    found = {name: value for name, _, value in (text.partition(" ") for text in lines[1:])}
    return {"commit": lines[0].split(" ")[0], **found} if lines else {}
