"""Files that others must not read or replace: read with suspicion, or not at all (security A.8 ID-11)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_FILE_BYTES = 256 * 1024
_DATA = "..data"
"""In a mounted Secret: the link to the folder of its present content; the kubelet replaces it as a whole."""


class MaterialError(ValueError):
    """Root or issuer can't be used; one line that names the file, what is wrong and what is expected."""


def settled_folder(folder: Path) -> Path:
    """Return the folder whose files count: the one given, or that of a mounted Secret's present content.

    Raises MaterialError where it is a link or could be written to by others.
    """
    found = _check_folder(folder)
    is_mounted = (folder / _DATA).is_symlink()
    # A Secret's mount is open to all (1777), and nobody can write to it: it is read-only in every container.
    if found.st_mode & 0o022 and not (is_mounted and _is_read_only(folder)):
        raise MaterialError(f"issuerFolder {folder}: others may write to it; chmod go-w {folder}")
    if not is_mounted:
        return folder
    target = (folder / _DATA).readlink()
    if len(target.parts) != 1 or target.name in ("", ".", ".."):
        raise MaterialError(f"{folder / _DATA}: leads to {target}; expected a folder beside it")
    content = folder / target
    if _check_folder(content).st_mode & 0o022:
        raise MaterialError(f"issuerFolder {content}: others may write to it; chmod go-w {content}")
    return content


def read_guarded(path: Path, *, secret: bool) -> bytes:
    """Read a plain file of ours; the checks and the reading are of one open file. Raises MaterialError.

    A secret is ours alone; in a mounted Secret our group's, too, since its files are root's (`fsGroup`).
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "is a symbolic link; expected a plain file" if path.is_symlink() else error.strerror
        raise MaterialError(f"{path}: {what}") from error
    with os.fdopen(file, "rb") as reader:
        found = os.fstat(reader.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise MaterialError(f"{path}: expected a plain file")
        _check_owner(path, found)
        _check_mode(path, found, secret=secret)
        content = reader.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise MaterialError(f"{path}: expected at most {MAX_FILE_BYTES} bytes")
    return content


def _check_folder(folder: Path) -> os.stat_result:
    try:
        found = folder.lstat()
    except OSError as error:
        raise MaterialError(
            f"issuerFolder {folder}: {error.strerror}; give identity a root or issuer"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise MaterialError(f"issuerFolder {folder}: expected a folder, not a link or file")
    _check_owner(folder, found)
    return found


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise MaterialError(f"{path}: owned by uid {found.st_uid}; expected {os.geteuid()} or root")


def _check_mode(path: Path, found: os.stat_result, *, secret: bool) -> None:
    mode = stat.S_IMODE(found.st_mode)
    is_mounted = (path.parent.parent / _DATA).is_symlink()
    forbidden = 0o077 if secret else 0o022
    if secret and is_mounted and found.st_uid == 0 and found.st_gid in {os.getegid(), *os.getgroups()}:
        forbidden = 0o037
    if not mode & forbidden:
        return
    mend = f"chmod {'600' if secret else 'go-w'} {path}"
    if is_mounted:
        mend = "mount the Secret with defaultMode 0400, or 0440 with an fsGroup"
    raise MaterialError(f"{path}: mode {mode:04o}; {mend}")


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
