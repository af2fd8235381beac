"""Values that the rules of one part share, each once."""

from __future__ import annotations

from collections.abc import Iterable

from policyd.compile.rows import Condition, IdentitySet, NetworkSet, Pools


class PoolBuilder:
    """Gives every value an index; the same value has the same index."""

    def __init__(self) -> None:
        self._identities: dict[IdentitySet, int] = {}
        self._networks: dict[NetworkSet, int] = {}
        self._conditions: dict[Condition, int] = {}

    def identities(self, value: IdentitySet) -> int:
        return self._identities.setdefault(value, len(self._identities))

    def networks(self, value: NetworkSet) -> int:
        return self._networks.setdefault(value, len(self._networks))

    def conditions(self, values: Iterable[Condition]) -> tuple[int, ...]:
        indices = {self._conditions.setdefault(value, len(self._conditions)) for value in values}
        return tuple(sorted(indices))

    def pools(self) -> Pools:
        return Pools(list(self._identities), list(self._networks), list(self._conditions))
