"""The heads file: up to where each chain goes, signed, line after line (docs/reference/audit-store.md).

A database that was shortened or rolled back lacks what a line says; a file that was lacks what the database
says. Lines name the hash of the line before.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

CONTEXT = b"policyd.v1.AuditHeads\x00"
MOST_BYTES = 8 * 1024 * 1024
"""Above this the file begins anew with one line of everything."""
FIRST = "0" * 64
"""What the first line of all names as the line before it."""

HeadRow = Mapping[str, object]


class Signer(Protocol):
    """A key with a certificate: policyd's SVID, whichever is the current one."""

    @property
    def chain(self) -> Sequence[bytes]:
        """DER, leaf first; no root. Empty before the first SVID."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, ASN.1 DER."""


def signed_line(
    signer: Signer, content: Mapping[str, object], held: tuple[bytes, ...] | None
) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a signed line and the certificates it is checked by, which are in it unless they are `held`."""
    payload = json.dumps(content, ensure_ascii=False)
    while True:  # a renewal between the two gives another key than the chain's
        chain = tuple(signer.chain)
        signature = signer.sign(CONTEXT + payload.encode())
        if chain == tuple(signer.chain):
            break
    line: dict[str, object] = {"payload": payload, "signature": _text(signature)}
    if chain != held:
        line["chain"] = [_text(each) for each in chain]
    return json.dumps(line, ensure_ascii=False).encode(), chain


class HeadsFile:
    """One file, one writer. Raises OSError where it can't be written."""

    def __init__(self, path: Path, signer: Signer) -> None:
        self._path = path
        self._signer = signer
        self._chain: tuple[bytes, ...] = ()
        self._previous: str | None = None

    @property
    def can_sign(self) -> bool:
        """Whether there is a key yet."""
        return bool(self._signer.chain)

    @property
    def is_long(self) -> bool:
        """Whether the next line should say everything, in a new file."""
        return self._path.exists() and self._path.stat().st_size > MOST_BYTES

    def write(self, content: Mapping[str, object], anew: bool = False) -> str:
        """Append a signed line, durably; `anew`: as the first of a new file. Return the line's hash."""
        previous = self._last() if self._previous is None else self._previous
        held = None if anew else self._chain
        encoded, chain = signed_line(self._signer, {**content, "previous": previous}, held)
        self._replace(encoded + b"\n") if anew else self._append(encoded + b"\n")
        self._chain, self._previous = chain, hashlib.sha256(encoded).hexdigest()
        return self._previous

    def _last(self) -> str:
        """Return the hash of the last whole line; one torn by a crash is ended and stays."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return FIRST
        if content and not content.endswith(b"\n"):
            self._append(b"\n")
            content = content.rpartition(b"\n")[0] + b"\n"
        lines = content.splitlines()
        return hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST

    def _append(self, encoded: bytes) -> None:
        file = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            _write(file, encoded)
        except OSError:
            self._previous = None  # what is at the end isn't known
            raise
        finally:
            os.close(file)

    def _replace(self, encoded: bytes) -> None:
        beside = self._path.with_suffix(".new")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write(file, encoded)
        finally:
            os.close(file)
        beside.replace(self._path)


def _write(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]
    os.fsync(file)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
