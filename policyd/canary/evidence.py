"""What was seen of the canaries, and what explain expects of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from policyd.canary.flock import BARE, CANARIES, PORT, SERVER, Canary
from policyd.canary.nest import Object
from policyd.errors import SourceError
from policyd.explain.answer import Decision, decide
from policyd.explain.manifests import Manifests
from policyd.explain.question import DEFAULT_IP, Caller, Question, account_identity, http_request
from policyd.model.names import parse_workload


class Heard(msgspec.Struct, frozen=True):
    """What a caller told of one request: `application` is our own server's answer, None where it has none."""

    canary: str
    status: int | None = None
    decision: str | None = None
    application: Mapping[str, Any] | None = None
    source: str | None = None
    error: str | None = None
    tries: int = 1
    millis: int = 0

    @property
    def past_the_proxy(self) -> bool:
        """Whether the application saw the caller's own address: a proxy in front of it dials from its own."""
        return self.application is not None and self.application.get("peer") == self.source


@dataclass(slots=True)
class Evidence:
    """All of it, by canary and by a decision's id. `missing` says of a role why its pod told nothing."""

    heard: dict[str, Heard] = field(default_factory=dict)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """Take a line of a caller's or a proxy's log; others are passed over."""
        if not line.startswith("{"):
            return
        try:
            told = json.loads(line)
        except ValueError:
            return
        if not isinstance(told, dict):
            return
        if "canary" in told:
            heard = msgspec.convert(told, Heard)
            self.heard.setdefault(heard.canary, heard)
        elif told.get("event") == "denial" and isinstance(told.get("id"), str):
            self.records.setdefault(told["id"], told)

    def take_all(self, lines: Iterable[str]) -> None:
        """Take each line."""
        for line in lines:
            self.take(line)

    @property
    def is_whole(self) -> bool:
        """Whether every canary was heard of."""
        return all(each.name in self.heard for each in CANARIES)

    @property
    def unrecorded(self) -> list[str]:
        """Ids of decisions whose record wasn't seen yet."""
        given = (each.decision for each in self.heard.values())
        return [each for each in given if each is not None and each not in self.records]


def expected(
    objects: Iterable[Object], folder: Path, domain: str, at: datetime, networks: tuple[str, ...] = ()
) -> dict[str, Decision]:
    """Return what explain says of each canary, with the engine that enforces. `folder` is written to.

    Raises SourceError where the objects make no workload.
    """
    (folder / "canaries.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    manifests = Manifests.read([folder], domain, networks)
    (namespace,) = {
        key.namespace for key in manifests.world.objects if key.kind == "Pod" and key.name == SERVER
    }
    place = manifests.place(parse_workload(f"pod/{namespace}/{SERVER}"))
    if place is None:
        raise SourceError(f"pod/{namespace}/{SERVER}: no such workload")
    return {each.name: decide(manifests, place, _question(each, namespace, domain, at)) for each in CANARIES}


def _question(canary: Canary, namespace: str, domain: str, at: datetime) -> Question:
    identity = None if canary.role == BARE else account_identity(f"{namespace}/{canary.role}", domain)
    return Question(PORT, at, Caller(DEFAULT_IP, identity), http_request("GET", canary.path, SERVER, []))
