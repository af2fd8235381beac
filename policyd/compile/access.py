"""The default of a port without a Server (semantics W3, W4)."""

from __future__ import annotations

from collections.abc import Iterable

from policyd.compile.rows import Access

_BY_NAME = {
    "deny": Access.DENY,
    "audit": Access.AUDIT,
    "all-unauthenticated": Access.ALL_UNAUTHENTICATED,
    "all-authenticated": Access.ALL_AUTHENTICATED,
    "cluster-unauthenticated": Access.CLUSTER_UNAUTHENTICATED,
    "cluster-authenticated": Access.CLUSTER_AUTHENTICATED,
}
NAMES = tuple(_BY_NAME)

_CLUSTER_ONLY = frozenset({Access.CLUSTER_UNAUTHENTICATED, Access.CLUSTER_AUTHENTICATED})
_AUTHENTICATED = frozenset({Access.ALL_AUTHENTICATED, Access.CLUSTER_AUTHENTICATED})
_BY_PAIR = {
    # (cluster networks only, with identity only)
    (False, False): Access.ALL_UNAUTHENTICATED,
    (False, True): Access.ALL_AUTHENTICATED,
    (True, False): Access.CLUSTER_UNAUTHENTICATED,
    (True, True): Access.CLUSTER_AUTHENTICATED,
}


def parse_access(name: str) -> Access | None:
    """Return the access of that name, None where there is none."""
    return _BY_NAME.get(name)


def meet(accesses: Iterable[Access]) -> Access:
    """Return what all of them grant; of none at all, `deny`.

    `audit` grants what `all-unauthenticated` grants, so it survives only beside these two.
    """
    given = frozenset(accesses)
    if not given or Access.DENY in given:
        return Access.DENY
    widest = _BY_PAIR[bool(given & _CLUSTER_ONLY), bool(given & _AUTHENTICATED)]
    if widest is Access.ALL_UNAUTHENTICATED and Access.AUDIT in given:
        return Access.AUDIT
    return widest


def is_wider(access: Access, bound: Access) -> bool:
    """Whether an access grants somebody what the bound doesn't; `audit` counts as `all-unauthenticated`."""
    return access is not Access.DENY and meet([access, bound]) not in {access, Access.AUDIT}
