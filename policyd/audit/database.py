"""What the store asks of a database, whichever it is. Statements are written once, with `?` for values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from policyd.audit.heads import Signer


class Connection(Protocol):
    """An open database. What `execute` returns can be iterated, and has `fetchone` and `fetchall`."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each row of values."""

    def close(self) -> None:
        """Close; a transaction that is open is taken back."""


class Heads(Protocol):
    """Signed lines: up to where each chain goes."""

    @property
    def can_sign(self) -> bool:
        """Whether there is a key yet."""

    def is_long(self, connection: Connection) -> bool:
        """Whether the next line should say everything, and those before be forgotten."""

    def write(self, connection: Connection, content: Mapping[str, object], anew: bool) -> str:
        """Keep a signed line, durably; return its hash."""


class Database(Protocol):
    """Where the trail is kept."""

    where: str
    """As people are told of it; no secrets."""
    faults: tuple[type[Exception], ...]
    """What using it raises while it doesn't work."""
    account_pattern: str
    """A condition on `peer`: an account in any trust domain. Its values are namespace and name."""

    def writer(self) -> Connection:
        """Open for the writer, making tables where there are none. Raises one of `faults`, AuditError."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Open for one question; rows are mappings. Raises StoreUnavailable."""

    def close(self) -> None:
        """Close what is kept open between questions."""

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that writes. Nobody else's begins before it ends."""

    def signing(self, connection: Connection) -> AbstractContextManager[None]:
        """Let nobody else sign heads while the block lasts."""

    def heads(self, signer: Signer) -> Heads:
        """Return where heads are kept."""

    def used_bytes(self, connection: Connection) -> int:
        """Return the size of what is kept."""

    def tidy(self, connection: Connection) -> None:
        """Give back the room of what was removed."""
