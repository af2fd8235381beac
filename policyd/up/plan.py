"""Which pods there should be: the replicas of every workload in the manifests."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from policyd.index.world import Object
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource
from policyd.resources.workload import Container, Pod, PodOwner, PodSpec
from policyd.up.programs import search_path

MOST_REPLICAS = 20
_SCALED = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "DaemonSet"})


@dataclass(frozen=True, slots=True)
class Template:
    """What the pods of one workload are made from. `digest` changes when a pod would be another."""

    owner: ObjectKey
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: PodSpec
    written: Mapping[str, Any]
    digest: str
    folder: Path
    replicas: int

    @property
    def account(self) -> str:
        return self.spec.account


@dataclass(frozen=True, slots=True)
class Skipped:
    """A container that isn't run, and why."""

    pods_of: ObjectKey
    container: str
    why: str


def templates(objects: Iterable[Object]) -> list[Template]:
    """Return the template of every workload that runs pods all the time, and of pods written as such."""
    return [template for found in objects if (template := _template(found)) is not None]


def _template(found: Object) -> Template | None:
    if not isinstance(found, Resource):
        return None
    spec, content = found.spec, found.document.content
    if isinstance(spec, PodOwner) and spec.kind in _SCALED and not spec.owners:
        template = spec.template
        labels, annotations = template.metadata.labels or {}, template.metadata.annotations or {}
        written = _inner(content, "spec", "template", "spec")
        replicas = 1 if spec.replicas is None else min(spec.replicas, MOST_REPLICAS)
        return _made(found, labels, annotations, template.spec, written, replicas)
    if isinstance(spec, Pod) and not spec.owners:
        return _made(found, found.meta.labels, found.meta.annotations, spec.spec, _inner(content, "spec"), 1)
    return None


def _made(
    found: Resource[Any],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    spec: PodSpec,
    written: Mapping[str, Any],
    replicas: int,
) -> Template:
    content = msgspec.json.encode([dict(labels), dict(annotations), written], order="deterministic")
    digest = hashlib.sha256(content).hexdigest()[:10]
    folder = Path(found.document.file).resolve().parent if found.document.file else Path.cwd()
    return Template(found.key, labels, annotations, spec, written, digest, folder, replicas)


def _inner(content: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value: Any = content
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def runnable(template: Template) -> tuple[list[Container], list[Skipped]]:
    """Return the containers whose command is there on this machine, and the others."""
    run: list[Container] = []
    skipped: list[Skipped] = []
    for container in template.spec.containers:
        why = _obstacle(container, template.folder)
        if why is None:
            run.append(container)
        else:
            skipped.append(Skipped(template.owner, container.name, why))
    return run, skipped


def _obstacle(container: Container, folder: Path) -> str | None:
    if not container.command:
        return f"no command: the image {container.image or '(none)'} isn't run here"
    program = container.command[0]
    if "/" in program:
        return None if (working_folder(container, folder) / program).is_file() else f"{program}: no such file"
    return None if shutil.which(program, path=search_path()) else f"{program}: not found on PATH"


def working_folder(container: Container, folder: Path) -> Path:
    """Return where a container's command runs: its workingDir beside the manifest, if that is there."""
    wanted = folder / (container.working_dir or ".").lstrip("/")
    return wanted if wanted.is_dir() else folder
