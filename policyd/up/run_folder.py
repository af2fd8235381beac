"""The folder of one run: 0700, in memory where the system has such a place, gone when the run is over."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from policyd.errors import SourceError

SOCKET = "up.sock"


def runtime_folder() -> Path:
    """Return where runs and their socket are: `$XDG_RUNTIME_DIR/policyd`, or a folder of this user."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "policyd" if runtime else Path(tempfile.gettempdir()) / f"policyd-{os.getuid()}"


def base_folder() -> Path:
    """Make that folder and return it. Raises SourceError where it can't be made, or isn't ours."""
    base = runtime_folder()
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        found = base.lstat()
    except OSError as error:
        raise SourceError(f"{base}: {error.strerror}: set XDG_RUNTIME_DIR to a folder of yours") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SourceError(
            f"{base}: expected a folder of yours with mode 0700; remove it, or set XDG_RUNTIME_DIR"
        )
    return base


class RunFolder:
    """Everything of one run lies below `path`. Its lock is held as long as the run lives, however it ends."""

    def __init__(self) -> None:
        base = base_folder()
        _remove_dead(base)
        self.path = Path(tempfile.mkdtemp(prefix="run-", dir=base))
        self._lock = _lock(self.path, os.O_CREAT)
        self.pods = self._folder("pods")
        self.root = self.path / "root"
        self.replicas = self._folder("replicas")

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(mode=0o700)
        return folder

    def state(self, name: str) -> Path:
        """Return a folder for what one process keeps."""
        folder = self.path / "state" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def remove(self) -> None:
        """Leave nothing behind, the base folder included where this was the last run."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        with contextlib.suppress(OSError):  # another run is in it
            self.path.parent.rmdir()


def _lock(run: Path, create: int = 0) -> int | None:
    """Take a run's lock; None where its process lives, or the folder is gone or not a run's yet."""
    try:
        file = os.open(run / ".lock", os.O_RDWR | create | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _remove_dead(base: Path) -> None:
    """Remove what runs left behind that were killed: keys too lie there."""
    for run in base.glob("run-*"):
        lock = _lock(run)
        if lock is not None:
            shutil.rmtree(run, ignore_errors=True)
            os.close(lock)
