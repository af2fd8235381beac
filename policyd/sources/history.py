"""Who wrote something, and when: of a file from git, else its time; in a cluster the field manager."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from policyd.model.origin import Origin

TIMEOUT_S = 5.0
_UNCOMMITTED = "0" * 40


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote a line and when. `author` and `commit` are None where only the file's time is known."""

    at: datetime
    author: str | None = None
    commit: str | None = None
    through: str | None = None
    """In a cluster: which GitOps tool keeps the object."""


def written(origin: Origin) -> Written | None:
    """Who wrote what stands at an origin.

    None where that is neither known of the object nor in a file, or the file is gone. Asks git each time.
    """
    if origin.file is None:
        told = origin.authorship
        return None if told is None else Written(told.at, told.manager, through=told.through)
    path = Path(origin.file)
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
    return (_blame(path, origin.line) if origin.line else None) or Written(changed)


def removed(file: str) -> Written | None:
    """Who last changed a file that something was taken out of, or that is gone itself."""
    path = Path(file)
    folder = path.parent
    if not folder.is_dir():
        return None
    dirty = _git(folder, "status", "--porcelain", "--", path.name)
    if dirty == "":
        fields = (
            (_git(folder, "log", "-1", "--format=%H%x00%at%x00%an", "--", path.name) or "")
            .strip()
            .split("\0")
        )
        if len(fields) == 3 and fields[1].isdigit():
            return Written(datetime.fromtimestamp(int(fields[1]), UTC), fields[2], fields[0])
    found = path if path.exists() else folder
    try:
        return Written(datetime.fromtimestamp(found.stat().st_mtime, UTC))
    except OSError:
        return None


def _blame(path: Path, line: int) -> Written | None:
    """Tell what git says of a line.

    None without git, outside of a repository, or where the line isn't committed.
    """
    blame = ("blame", "--porcelain", "--no-textconv", "-L", f"{line},{line}", "--", path.name)
    told = _git(path.parent, *blame)
    return None if told is None else _read_porcelain(told)


def _git(folder: Path, *words: str) -> str | None:
    """Return what git says; None where there is no git, no repository, or no answer in time."""
    git = shutil.which("git")
    if git is None:
        return None
    # Nothing that a repository's own configuration names may run: a folder of manifests is not ours to trust.
    settings = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        asked = subprocess.run(  # noqa: S603
            (git, *settings, *words),
            cwd=folder,
            env={**kept, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout if asked.returncode == 0 else None


def _read_porcelain(text: str) -> Written | None:
    lines = text.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines[1:] if not line.startswith("\t"))
    commit = lines[0].split(" ")[0] if lines else _UNCOMMITTED
    if commit == _UNCOMMITTED or not fields.get("author-time", "").isdigit():
        return None
    return Written(datetime.fromtimestamp(int(fields["author-time"]), UTC), fields.get("author"), commit)
