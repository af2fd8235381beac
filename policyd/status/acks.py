"""What proxies have acknowledged, by pod: what this replica heard, and what the others say they heard.

A pod is named by the beginning of a hash of its uid, a table by the beginning of its own: ten thousand pods
must fit into one ConfigMap together with the other replicas' (64 and 96 bits; a status is worth no attack).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

MOST_REPORT_BYTES = 256 * 1024
"""Of one replica: about 20,000 pods. A ConfigMap holds 1 MiB."""
_POD_BYTES = 8
_POD_TEXT = 11
_TABLE_HEX = 24
NOTHING = ""
"""Stands for the table of a proxy that is connected and has acknowledged none."""

Acks = Mapping[str, frozenset[str]]
"""By pod, the tables that its streams have acknowledged: several where several replicas speak of it."""


class Proxies(Protocol):
    """Who is connected to this replica."""

    def stir(self) -> tuple[object, ...]:
        """Return something that differs whenever an acknowledgement or a connection came or went."""

    def acknowledged(self) -> Iterable[tuple[str, bytes]]:
        """Return for each stream its pod (uid, or identity where it has none) and the table, b"" for none."""


def pod_id(pod: str) -> str:
    """Return how reports call the pod of a uid, or the identity of a proxy without a pod."""
    head = hashlib.sha256(pod.encode()).digest()[:_POD_BYTES]
    return base64.urlsafe_b64encode(head).decode().rstrip("=")


def table_id(version: str) -> str:
    """Return how reports call a table, from its version (`sha256:…`)."""
    return version.removeprefix("sha256:")[:_TABLE_HEX]


def own_acks(proxies: Proxies) -> dict[str, frozenset[str]]:
    """Return what this replica's own streams have acknowledged."""
    return merged((pod_id(pod), table.hex()[:_TABLE_HEX]) for pod, table in proxies.acknowledged())


def merged(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Return all that was said of each pod."""
    found: dict[str, set[str]] = {}
    for pod, table in pairs:
        found.setdefault(pod, set()).add(table)
    return {pod: frozenset(tables) for pod, tables in found.items()}


def together(all_of_them: Iterable[Acks]) -> Acks:
    """Return what several replicas say. Of a pod of which they say different things all of it stands."""
    return merged((pod, table) for acks in all_of_them for pod, tables in acks.items() for table in tables)


class _Report(msgspec.Struct):
    beat: int
    tables: dict[str, str]


_DECODER = msgspec.json.Decoder(_Report)


def written(acks: Acks, beat: int) -> str:
    """Return a replica's report; `beat` says that it lives. What finds no room is left out."""
    tables: dict[str, list[str]] = {}
    size = 0
    for pod, several in sorted(acks.items()):
        table = next(iter(several)) if len(several) == 1 else NOTHING
        size += _POD_TEXT + (0 if table in tables else _TABLE_HEX + 8)
        if size > MOST_REPORT_BYTES:
            break
        tables.setdefault(table, []).append(pod)
    return msgspec.json.encode(_Report(beat, {key: "".join(pods) for key, pods in tables.items()})).decode()


def read(text: str) -> Acks:
    """Return what a report says; nothing where it can't be read."""
    try:
        report = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return {}
    return merged(
        (pods[at : at + _POD_TEXT], table)
        for table, pods in report.tables.items()
        for at in range(0, len(pods) - _POD_TEXT + 1, _POD_TEXT)
    )
