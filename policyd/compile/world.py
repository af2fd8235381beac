"""The way in: from files, or from a source's batches, to a world and its tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from policyd.compile.compiler import DEFAULT_TRUST_DOMAIN, Compiler
from policyd.compile.table import CompiledTable
from policyd.index.world import Change, World
from policyd.model.finding import Finding
from policyd.model.names import WorkloadName
from policyd.sources.events import Batch, Deleted
from policyd.sources.files import load


@dataclass(frozen=True, slots=True)
class LoadedWorld:
    """A world read once from files.

    `unreadable` are files that are no YAML (semantics U6: at a cold start an error); `findings` what else is
    wrong with the files themselves. What is wrong with an object, `compile.report` says.
    """

    world: World
    unreadable: tuple[Finding, ...]
    findings: tuple[Finding, ...]


def load_world(paths: Iterable[Path]) -> LoadedWorld:
    """Read files and folders once. Raises SourceError where a path isn't there."""
    loaded = load(paths)
    world = World()
    world.apply((found.key, found) for found in loaded.objects)
    return LoadedWorld(world, loaded.unreadable, loaded.findings)


def changes_of(batch: Batch) -> list[Change]:
    """Return what a source's batch changes, in its order."""
    return [
        (event.key, None) if isinstance(event, Deleted) else (event.key, event.object)
        for event in batch.events
    ]


def compile_all(world: World, trust_domain: str = DEFAULT_TRUST_DOMAIN) -> dict[WorkloadName, CompiledTable]:
    """Return the table of every workload of a world, compiled from nothing."""
    return Compiler(world, trust_domain).tables
