"""An image archive (OCI layout in a tar) of one layer: the same files give the same bytes.

`ctr image import` and `docker load` take it, and registries take what they unpack from it. Layers aren't
compressed, so that the bytes depend on no version of zlib.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CREATED = "1970-01-01T00:00:00Z"
"""Of every image: a date would make two builds of the same files differ."""
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_BLOBS = "blobs/sha256"


@dataclass(frozen=True)
class Image:
    """What is to run: its name with tag, its files (path in the image to content), and how it starts."""

    name: str
    architecture: str
    user: str
    entrypoint: tuple[str, ...]
    files: Mapping[str, Path | bytes | Link]
    environment: tuple[str, ...] = ()
    programs: frozenset[str] = field(default_factory=frozenset)
    """Paths that can be run, where the content given is bytes."""


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


def write(image: Image, archive: Path) -> str:
    """Write the archive; returns the digest of the image's manifest."""
    layer = _layer(image)
    config = _json(_config(image, layer))
    manifest = _json(_manifest(config, layer))
    index = _json(_index(image, manifest))
    blobs = {f"{_BLOBS}/{_digest(blob)}": blob for blob in (layer, config, manifest)}
    docker = [
        {
            "Config": f"{_BLOBS}/{_digest(config)}",
            "RepoTags": [image.name],
            "Layers": [f"{_BLOBS}/{_digest(layer)}"],
        }
    ]
    layout = _json({"imageLayoutVersion": "1.0.0"})
    entries = {"index.json": index, "manifest.json": _json(docker), "oci-layout": layout, **blobs}
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(entries):
            _add(tar, name, entries[name], 0o644)
    return f"sha256:{_digest(manifest)}"


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in sorted({str(parent) for path in image.files for parent in Path(path).parents} - {"."}):
            if folder not in image.files:
                _add_folder(tar, folder)
        for path in sorted(image.files):
            content = image.files[path]
            if isinstance(content, Link):
                _add_link(tar, path, content.target)
            elif isinstance(content, Path):
                runs = content.stat().st_mode & 0o100
                _add(tar, path, content.read_bytes(), 0o755 if runs else 0o644)
            else:
                _add(tar, path, content, 0o755 if path in image.programs else 0o644)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(info)


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    tar.addfile(info)


def _config(image: Image, layer: bytes) -> dict[str, Any]:
    return {
        "created": CREATED,
        "architecture": image.architecture,
        "os": "linux",
        "config": {
            "User": image.user,
            "Env": list(image.environment),
            "Entrypoint": list(image.entrypoint),
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        "history": [{"created": CREATED, "created_by": "make images"}],
    }


def _manifest(config: bytes, layer: bytes) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, layer)],
    }


def _index(image: Image, manifest: bytes) -> dict[str, Any]:
    annotations = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
    }
    platform = {"architecture": image.architecture, "os": "linux"}
    entry = _descriptor(_MANIFEST, manifest) | {"platform": platform, "annotations": annotations}
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{_digest(content)}", "size": len(content)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
