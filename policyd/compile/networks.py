"""Network sets of a table. Resources hold CIDRs in normal form already (semantics W5)."""

from __future__ import annotations

from collections.abc import Iterable

from policyd.compile.rows import NetworkBlock, NetworkSet
from policyd.resources.networks import Network

CLUSTER_NETWORKS = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
"""What the cluster networks are unless MeshDefaults says otherwise (semantics W5)."""

NOWHERE = NetworkSet()
"""No address is in it: what a missing NetworkAuthentication grants."""


def network_set(networks: Iterable[Network]) -> NetworkSet:
    """Return the set of blocks less their exceptions."""
    return _sorted_set(NetworkBlock(one.cidr, tuple(sorted(set(one.except_)))) for one in networks)


def plain_set(cidrs: Iterable[str]) -> NetworkSet:
    """Return the set of blocks without exceptions."""
    return _sorted_set(NetworkBlock(cidr) for cidr in cidrs)


def _sorted_set(blocks: Iterable[NetworkBlock]) -> NetworkSet:
    return NetworkSet(tuple(sorted(set(blocks), key=lambda block: (block.cidr, block.except_))))
