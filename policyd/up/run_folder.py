"""The folder of one run: 0700, in memory where the system has such a place, gone when the run is over."""

from __future__ import annotations

import contextlib
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
    """Everything of one run lies below `path`."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="run-", dir=base_folder()))
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
        with contextlib.suppress(OSError):  # another run is in it
            self.path.parent.rmdir()
