"""Whether the pod and the ServiceAccount that a token speaks for are still there.

`FolderPods` reads the Pod objects that a local kubelet (`policyctl up`) writes into a folder; a watch of the
API server implements the same `PodPresence`. A ServiceAccount object in the folder is checked too; where
there never was one, the pod that runs as it stands for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import yaml

from identity.refusal import Code, Refused
from identity.tokens import Caller

MAX_FILE_BYTES = 1024 * 1024
RESCAN_SECONDS = 0.1
"""How often at most the whole folder is looked through for pods not known yet."""


class PodPresence(Protocol):
    """Raises Refused(POD_GONE) unless pod and ServiceAccount exist, by uid, and aren't terminating."""

    async def require(self, caller: Caller) -> None: ...


class Unchecked:
    """Takes the token's word. Only by explicit choice (`withoutPods`): neither cluster nor folder."""

    async def require(self, caller: Caller) -> None:
        pass


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = "default"
    uid: str = ""
    deletion_timestamp: str | None = None


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    service_account_name: str = "default"


class PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """A Pod or a ServiceAccount, as far as it is read here."""

    kind: str
    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was read: its stamp and what it held."""

    stamp: tuple[int, int, int]
    manifests: tuple[Manifest, ...]


class FolderPods:
    """Pods of a folder's `*.json`, `*.yaml` and `*.yml`. A change counts from the next question on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _File] = {}
        self._pods: dict[str, Path] = {}
        self._accounts: dict[tuple[str, str], Path] = {}
        self._scan_lock = asyncio.Lock()
        self._scanned_at = 0.0

    async def require(self, caller: Caller) -> None:
        pod = self._find_pod(caller.pod_uid)
        if pod is None:
            await self._rescan()
            pod = self._find_pod(caller.pod_uid)
        if pod is None:
            raise _gone(f"pod {caller.namespace}/{caller.pod_name} with uid {caller.pod_uid} isn't there")
        claimed = caller.namespace, caller.pod_name, caller.service_account
        if (pod.metadata.namespace, pod.metadata.name, pod.spec.service_account_name) != claimed:
            raise _gone(f"pod uid {caller.pod_uid} isn't {'/'.join(claimed[:2])} as {caller.service_account}")
        if pod.metadata.deletion_timestamp is not None or pod.status.phase in ("Succeeded", "Failed"):
            raise _gone(f"pod {caller.namespace}/{caller.pod_name} is terminating or has ended")
        self._require_account(caller)

    def _find_pod(self, uid: str) -> Manifest | None:
        return self._find(self._pods.get(uid), "Pod", lambda found: found.uid == uid)

    def _require_account(self, caller: Caller) -> None:
        named = caller.namespace, caller.service_account
        path = self._accounts.get(named)
        account = self._find(path, "ServiceAccount", lambda found: (found.namespace, found.name) == named)
        if account is None:
            if path is None:
                return
            raise _gone(f"ServiceAccount {'/'.join(named)} was deleted")
        if account.metadata.deletion_timestamp is not None:
            raise _gone(f"ServiceAccount {'/'.join(named)} is terminating")
        if account.metadata.uid not in ("", caller.service_account_uid):
            raise _gone(f"ServiceAccount {'/'.join(named)} is another one by now")

    def _find(self, path: Path | None, kind: str, matches: Callable[[Meta], bool]) -> Manifest | None:
        """Look into a file, read again if it has changed."""
        if path is None:
            return None
        self._refresh(path)
        file = self._files.get(path)
        manifests = () if file is None else file.manifests
        return next((found for found in manifests if found.kind == kind and matches(found.metadata)), None)

    async def _rescan(self) -> None:
        async with self._scan_lock:
            await asyncio.sleep(max(0.0, self._scanned_at + RESCAN_SECONDS - time.monotonic()))
            await asyncio.to_thread(self._scan)
            self._scanned_at = time.monotonic()

    def _scan(self) -> None:
        try:
            with os.scandir(self._folder) as entries:
                paths = {Path(entry.path) for entry in entries if entry.name.endswith(_ENDINGS)}
        except OSError:
            paths = set()
        for path in paths | self._files.keys():
            self._refresh(path)
        manifests = [(path, one) for path, file in self._files.items() for one in file.manifests]
        self._pods = {one.metadata.uid: path for path, one in manifests if one.kind == "Pod"}
        # Never forgotten: an account that was there and is gone was deleted.
        self._accounts |= {
            (one.metadata.namespace, one.metadata.name): path
            for path, one in manifests
            if one.kind == "ServiceAccount"
        }

    def _refresh(self, path: Path) -> None:
        """Read a file whose stamp changed; one that is gone or can't be read holds nothing."""
        stamp = _stamp(path)
        known = self._files.get(path)
        if stamp is None:
            self._files.pop(path, None)
            return
        if known is not None and known.stamp == stamp:
            return
        self._files[path] = _File(stamp, tuple(_read(path)))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> Iterator[Manifest]:
    """Yield the Pods and ServiceAccounts of a file; what can't be read isn't there."""
    try:
        content = path.read_bytes()
        documents = _parse(content) if len(content) <= MAX_FILE_BYTES else []
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return
    for document in documents:
        match document:
            case {"kind": "Pod" | "ServiceAccount"}:
                try:
                    yield msgspec.convert(document, Manifest, strict=False)
                except msgspec.ValidationError:
                    continue
            case {"kind": "List", "items": [*items]}:
                documents.extend(items)
            case _:
                continue


def _parse(content: bytes) -> list[object]:
    if content.lstrip().startswith(b"{"):
        return [msgspec.json.decode(content)]
    # No aliases: a page of them can stand for more than memory holds.
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, yaml.CSafeLoader)):
        return []
    return list(yaml.load_all(content, yaml.CSafeLoader))


def _gone(what: str) -> Refused:
    return Refused(Code.POD_GONE, what)


_ENDINGS = (".json", ".yaml", ".yml")
