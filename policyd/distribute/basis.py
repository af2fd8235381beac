"""How far policyd has read, as numbers that never go back, not even over a restart (design §8).

A cluster says itself how far it was read, kind by kind. A folder is read as a whole, so it has one counter,
of kind `*`. A ceiling is written ahead of use: counters below it need no write, and a restart begins above
it, whatever was handed out before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from policyd.errors import SourceError
from policyd.sources.events import Batch
from policyd.sources.source import Source
from policyd_api.v1 import stream_pb2 as wire

_RESERVE = 1024
EVERY_KIND = "*"

BasisRow = tuple[str, str, int]
"""(source, kind, revision)."""


class Counters:
    """One rising counter for each source, kept in `file`. Raises SourceError where the file can't be used."""

    def __init__(self, file: Path, sources: Iterable[str]) -> None:
        self._file = file
        self._ceilings = self._read()
        self._revisions = {source: self._ceilings.get(source, 0) for source in sources}
        for source in self._revisions:
            self.advance(source)

    def advance(self, source: str) -> None:
        """Something of `source` was read: what is told from now on is newer."""
        revision = self._revisions[source] + 1
        if revision > self._ceilings.get(source, 0):
            self._ceilings[source] = revision + _RESERVE
            self._write()
        self._revisions[source] = revision

    def rows(self) -> tuple[BasisRow, ...]:
        """Sorted by (source, kind)."""
        return tuple((source, EVERY_KIND, revision) for source, revision in sorted(self._revisions.items()))

    def _read(self) -> dict[str, int]:
        try:
            content = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{self._file}: {error}: it says how far proxies were told, which can't be guessed; "
                "restore it, or raise MeshDefaults.epoch and remove it"
            ) from error
        sound = isinstance(content, dict) and all(
            isinstance(revision, int) and revision >= 0 for revision in content.values()
        )
        if not sound:
            raise SourceError(f"{self._file}: expected an object of counters")
        return dict(content)

    def _write(self) -> None:
        beside = self._file.with_suffix(".new")
        with beside.open("w") as stream:
            json.dump(self._ceilings, stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._file)


class Basis:
    """A row for each counted source, and one for each kind of those that count themselves."""

    def __init__(self, file: Path, sources: Iterable[Source]) -> None:
        """Counters are kept in `file`. Raises SourceError where it can't be used."""
        counted = [source.name for source in sources if not source.counts_itself]
        self._counters = Counters(file, counted)
        self._versions: dict[str, tuple[tuple[str, int], ...]] = {}

    def take(self, source: Source, batch: Batch) -> None:
        """Note that everything up to a batch of the source has been taken over."""
        if source.counts_itself:
            self._versions[source.name] = batch.versions
        elif batch.events:
            self._counters.advance(source.name)

    def rows(self) -> tuple[BasisRow, ...]:
        """Sorted by (source, kind)."""
        own = (
            (source, kind, version)
            for source, versions in self._versions.items()
            for kind, version in versions
        )
        return tuple(sorted((*self._counters.rows(), *own)))


def behind(rows: Iterable[BasisRow], epoch: int, held: wire.Held | None) -> str | None:
    """Say what of the proxy's basis we have not reached; None: nothing, so we may tell it what we know.

    The epoch compares first; a component that we don't know at all isn't reached.
    """
    if held is None or epoch > held.epoch:
        return None
    if epoch < held.epoch:
        return f"epoch {held.epoch} > {epoch}"
    ours = {(source, kind): revision for source, kind, revision in rows}
    for row in held.basis:
        revision = ours.get((row.source, row.kind))
        if revision is None or revision < row.revision:
            return f"{row.source} {row.kind}: {row.revision} > {'not read' if revision is None else revision}"
    return None
