"""What proxies were told lately, tables and pod facts by hash: a denial of a moment ago can be explained."""

from __future__ import annotations

from collections import OrderedDict

MOST_KEPT = 1024


class Told:
    """The last snapshots and pod facts that were sent; the oldest go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def keep(self, sha256: bytes, content: bytes) -> None:
        """Remember bytes under their SHA-256 (raw; for a snapshot by its version rule)."""
        name = f"sha256:{sha256.hex()}"
        self._kept[name] = content
        self._kept.move_to_end(name)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def find(self, version: str) -> bytes | None:
        """Return what was kept under `sha256:…`."""
        return self._kept.get(version)
