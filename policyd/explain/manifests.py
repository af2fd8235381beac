"""Manifests read once: the world they make, its tables, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from policyd.compile.cluster_networks import absent, with_networks
from policyd.compile.compiler import DEFAULT_TRUST_DOMAIN, Compiler
from policyd.compile.table import CompiledTable
from policyd.engine import Table
from policyd.errors import SourceError
from policyd.explain.paper import on_paper
from policyd.index.shapes import Shape
from policyd.index.workloads import EXTERNAL
from policyd.index.world import World
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey, WorkloadName
from policyd.resources.base import Resource, Unreadable
from policyd.sources.events import AnyObject
from policyd.sources.files import load


@dataclass(frozen=True, slots=True)
class Place:
    """A workload and the shape of it that is meant: its template's, or that of the pod that was named.

    `shape` is None for an ExternalWorkload that can't be read.
    """

    workload: WorkloadName
    member: ObjectKey | None
    shape: Shape | None


@dataclass(slots=True)
class Manifests:
    """A compiler over objects that were read once. Tables are loaded into the engine when first asked for."""

    compiler: Compiler
    unreadable: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    _loaded: dict[str, Table] = field(default_factory=dict)
    _papers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, paths: Iterable[Path], trust_domain: str = DEFAULT_TRUST_DOMAIN, networks: tuple[str, ...] = ()
    ) -> Manifests:
        """Read files and folders. Raises SourceError where one isn't there or is no YAML (semantics U6).

        `networks` belong to the cluster beside those of MeshDefaults: what `policyctl up` adds.
        """
        loaded = load(paths)
        if loaded.unreadable:
            raise UnreadableManifestsError(loaded.unreadable)
        made = cls.of(loaded.objects, trust_domain, networks)
        made.findings = loaded.findings
        return made

    @classmethod
    def of(
        cls,
        objects: Iterable[AnyObject],
        trust_domain: str = DEFAULT_TRUST_DOMAIN,
        networks: tuple[str, ...] = (),
    ) -> Manifests:
        """Make a world of objects, wherever they come from."""
        world = World()
        written = ((each.key, each) for each in objects)
        world.apply([*absent(networks), *with_networks(written, networks)])
        return cls(Compiler(world, trust_domain))

    @property
    def world(self) -> World:
        return self.compiler.world

    def place(self, name: WorkloadName) -> Place | None:
        """Find a workload, or that of a named pod; None where there is none of that name."""
        workloads = self.world.workloads
        if name.kind == "pod":
            key = ObjectKey("", "Pod", name.namespace, name.name)
            member = workloads.member(key)
            return None if member is None else Place(workloads.workload_of(key), key, member.shape)
        shapes = workloads.shapes_of(name)
        if shapes:
            return Place(name, None, shapes[0])
        external = name.kind == "externalworkload"
        known = ObjectKey(*EXTERNAL, name.namespace, name.name) in self.world.objects if external else False
        return Place(name, None, None) if known else None

    def table_of(self, place: Place) -> CompiledTable | None:
        """Return the table that is enforced there; None where there is none (semantics W6)."""
        if place.member is not None:
            return self.compiler.table_of_member(place.member)
        return self.compiler.table(place.workload)

    def loaded(self, compiled: CompiledTable) -> Table:
        """Return the engine's table of a snapshot, loaded once per version."""
        found = self._loaded.get(compiled.version)
        if found is None:
            found = self._loaded[compiled.version] = Table(compiled.snapshot)
        return found

    def file_of(self, found: Resource[object] | Unreadable) -> str:
        """Return the file that an object is in; of a cluster's, one that is named after it and on no disk."""
        file = found.document.file
        return file if file is not None else self.file_on_paper(found.key, on_paper(found.document))

    def file_on_paper(self, key: ObjectKey, text: str = "") -> str:
        """Return the name of a file that is on no disk, for one object, with what it begins as."""
        file = f"{key.text}.yaml"
        self._papers.setdefault(file, text)
        return file

    def text(self, file: str) -> str:
        """Return a file's text. Raises OSError, UnicodeDecodeError."""
        known = self._papers.get(file)
        return Path(file).read_text(encoding="utf-8") if known is None else known

    def object_named(self, text: str) -> Resource[object] | Unreadable | None:
        """Find an object by its name in a table: `kind.group/namespace/name`, perhaps with `#deny/<name>`."""
        name = text.partition("#")[0]
        return next((found for key, found in self.world.objects.items() if key.text == name), None)


class UnreadableManifestsError(SourceError):
    """Files that are no YAML; `problems` has one finding for each place."""

    def __init__(self, problems: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(problem.text for problem in problems))
        self.problems = problems
