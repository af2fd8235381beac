"""What a policy comes to on a port: one row each, with its level, effect, scope and tests [A1-A8, U2, D2]."""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.conditions import Condition, holds
from tests.reference.gate import HttpRequest
from tests.reference.identity import Identities
from tests.reference.reading import Address, Block, in_blocks
from tests.reference.routes import Route, touches

ROUTE, SERVER, NAMESPACE, CLUSTER = range(4)


@dataclass
class Peer:
    """The other end: `identity` is None without a verified certificate."""

    address: Address
    identity: str | None = None
    pod_uid: str | None = None
    certificate: str | None = None
    not_before: int | None = None
    not_after: int | None = None


@dataclass
class Seen:
    """What rows are tried on: `request` is None for bytes, and for what T5 lets through unread."""

    peer: Peer
    now: int
    request: HttpRequest | None
    selected: Route | None


@dataclass
class Row:
    """`scope`: port, http, selected or matched (of `route`); `identities`/`blocks` None: not asked."""

    name: str
    effect: str
    level: int
    age: tuple[Any, ...]
    audit: bool = False
    scope: str = "port"
    route: Route | None = None
    identities: Identities | None = None
    blocks: list[Block] | None = None
    conditions: list[Condition] = field(default_factory=list)
    valid_until: int | None = None
    anonymous_too: bool = False

    @property
    def http_only(self) -> bool:
        """Only HTTP can satisfy it [T2]."""
        return self.scope != "port" or bool(self.conditions)

    def order(self) -> tuple[Any, ...]:
        return (self.level, self.age)

    def identity_holds(self, peer: Peer) -> bool:
        if self.identities is None:
            return True
        return self.identities.contain(peer.identity, star_is_any=self.effect == "Deny")

    def network_holds(self, peer: Peer) -> bool:
        return self.blocks is None or in_blocks(peer.address, self.blocks)

    def route_holds(self, seen: Seen) -> bool:
        if self.scope == "port":
            return True
        if seen.request is None:
            return False
        if self.scope == "http":
            return True
        if self.scope == "selected":
            return seen.selected is self.route
        return self.route is not None and touches(self.route, seen.request)

    def condition_holds(self, item: Condition, seen: Seen) -> bool:
        return seen.request is not None and holds(item, seen.request, grant=self.effect == "Allow")

    def in_scope(self, seen: Seen) -> bool:
        return self.route_holds(seen) and all(self.condition_holds(item, seen) for item in self.conditions)

    def expired(self, now: int) -> bool:
        return self.valid_until is not None and now >= self.valid_until

    def met(self, peer: Peer) -> bool:
        """All given authentications hold [I6]."""
        return self.identity_holds(peer) and self.network_holds(peer)

    def grants(self, seen: Seen) -> bool:
        return self.in_scope(seen) and self.met(seen.peer) and not self.expired(seen.now)

    def denies(self, seen: Seen) -> bool:
        """A Deny that asks for an identity also meets a peer without one [A3]."""
        identity = self.identity_holds(seen.peer) or (self.anonymous_too and seen.peer.identity is None)
        return self.in_scope(seen) and identity and self.network_holds(seen.peer)

    def denies_anonymity(self, seen: Seen) -> bool:
        return self.identities is not None and seen.peer.identity is None

    def unmet(self, seen: Seen) -> bool:
        return self.in_scope(seen) and not self.met(seen.peer)

    def failed(self, seen: Seen) -> list[str]:
        """The dimensions in which an Allow fails [D6]."""
        failures = []
        if not self.identity_holds(seen.peer):
            failures.append("identity")
        if not self.network_holds(seen.peer):
            failures.append("network")
        if not self.route_holds(seen):
            failures.append("route")
        for place, item in enumerate(self.conditions):
            if item in self.conditions[:place]:
                continue
            if not self.condition_holds(item, seen):
                failures.append(f"condition:{place}")
        if self.expired(seen.now):
            failures.append("expired")
        return failures
