"""Where everything of a run is: addresses, cores, files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.proxies.certificates import KeyPair
from policyd.up.addresses import PodAddresses


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the proxies have, and which everything else."""

    proxy: int
    rest: int

    @classmethod
    def of_machine(cls, one: bool) -> Cores:
        """Take the first two we may use; `one` puts everything on the first."""
        ours = sorted(os.sched_getaffinity(0))
        return cls(ours[0], ours[0] if one or len(ours) == 1 else ours[1])


@dataclass(frozen=True, slots=True)
class Place:
    """What a proxy is told of the world around it. All take the same addresses, one after the other."""

    folder: Path
    """Of the run; in memory where the system has such a place."""
    rules: int
    server: PodAddresses
    """Clients call `proxy`; the application binds `application`."""
    client: PodAddresses
    """The client's application calls its own proxy at `application`."""
    roots: Path
    server_pair: KeyPair
    client_pair: KeyPair

    def file(self, name: str) -> Path:
        """Return where a file of the run goes."""
        return self.folder / name
