"""The rules that every proxy is given, each in its own words.

Rule i lets one caller GET what lies below `/api/v1/svc<i>/`. There are twenty callers, one of them the load,
so a caller, a method and a path decide together, and no proxy can know the answer by the connection alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from identity.spiffe_id import SpiffeId, TrustDomain

TRUST_DOMAIN = TrustDomain("bench.local")
NAMESPACE = "app"
SERVER = "server"
CLIENT = "client"
METHOD = "GET"
_CALLERS = 20
_PATHS = 100


@dataclass(frozen=True, slots=True)
class Rule:
    """`account` may GET below `prefix`, which ends with a slash."""

    number: int
    account: str
    prefix: str

    @property
    def caller(self) -> str:
        """The account's SPIFFE ID."""
        return spiffe(self.account)


def rules(count: int) -> Iterator[Rule]:
    """Yield the rules, the load's own evenly among them."""
    for number in range(count):
        caller = number % _CALLERS
        account = CLIENT if caller == _CALLERS - 1 else f"caller-{caller}"
        yield Rule(number, account, f"/api/v1/svc{number}/")


def paths(count: int) -> list[str]:
    """Return paths that the load may ask for, spread over all rules."""
    own = [f"{rule.prefix}items" for rule in rules(count) if rule.account == CLIENT]
    return own[:: max(1, len(own) // _PATHS)][:_PATHS]


def denied_path() -> str:
    """Return a path that only another caller may ask for."""
    return f"{next(rules(1)).prefix}items"


def spiffe(account: str) -> str:
    """Return the SPIFFE ID of an account of ours."""
    return str(SpiffeId.of_service_account(TRUST_DOMAIN, NAMESPACE, account))


def dns_name(account: str) -> str:
    """Return the DNS name in the certificates of an account of ours."""
    return f"{account}.{NAMESPACE}.sa.{TRUST_DOMAIN.name}"
