"""The canaries on this machine alone: real identity, policyd and proxies, as `policyctl up` runs them.

It proves the programs, not a cluster: how a pod's traffic gets to its proxy is another matter there.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

import yaml

from policyd.canary import program
from policyd.canary.evidence import Evidence, expected
from policyd.canary.flock import BARE, CALLER, PORT, SERVER, STRANGER
from policyd.canary.nest import Nest, Object
from policyd.canary.verdicts import judged
from policyd.checkup.check import Reported
from policyd.up.process import Child, Command
from policyd.up.replica import Replica
from policyd.up.run import Running, running
from policyd.up.screen import Screen

SOCKET = "canary.sock"
"""Beside that of `policyctl up`, which may run meanwhile."""
SECONDS = 20.0
"""How long callers wait for answers: processes start in 2 to 3 s."""
_RECORD_SECONDS = 3.0
"""How long the last record is waited for, after the last answer."""


def nest(seconds: float = SECONDS) -> Nest:
    """Return canaries that run as processes of this machine."""
    words = (sys.executable, str(Path(program.__file__).resolve()))
    return Nest(words, "localhost/none", seconds=seconds)


class Loopback:
    """One run. What tests break is a method of its own."""

    def __init__(self, canaries: Nest) -> None:
        self.canaries = canaries
        self.evidence = Evidence()
        self._told = asyncio.Event()

    async def report(self) -> list[Reported]:
        """Set the canaries out, hear what they say, and judge it. Raises SourceError where nothing starts."""
        with tempfile.TemporaryDirectory(prefix="policyd-canary-") as written:
            folder, beside = Path(written) / "world", Path(written) / "explained"
            folder.mkdir()
            beside.mkdir()
            (folder / "canaries.yaml").write_text(yaml.safe_dump_all(self.objects()), encoding="utf-8")
            async with running(folder, _Ears(self), SOCKET) as started:
                await self.began(started)
                await self._hear(started)
                domain, at = started.trust_domain, datetime.now(UTC)
            return judged(self.evidence, expected(self.meant(), beside, domain, at))

    def meant(self) -> list[Object]:
        """Return what explain is asked about."""
        canaries = self.canaries
        target = "$(SERVER_SERVICE_HOST):$(SERVER_SERVICE_PORT)"
        callers = [canaries.caller(role, target) for role in (CALLER, STRANGER)]
        pods = [canaries.server(), *callers]
        return [canaries.home(), *canaries.accounts(), canaries.service(), *canaries.policies(), *pods]

    def objects(self) -> list[Object]:
        """Return what is run."""
        return self.meant()

    async def began(self, started: Running) -> None:
        """Everything has been started; nothing is ready yet."""

    def bare_target(self, started: Running) -> str:
        """Return where somebody without a proxy calls the server."""
        return f"{self.server(started).addresses.proxy}:{PORT}"

    def server(self, started: Running) -> Replica:
        """Return the server's pod."""
        return started.kubelet.replicas[(self.canaries.namespace, f"{SERVER}-0")]

    def heard(self, line: str) -> None:
        """Take what a caller said."""
        self.evidence.take(line)
        self._told.set()

    def recorded(self, record: Mapping[str, Any]) -> None:
        """Take a denial."""
        self.evidence.records[str(record.get("id"))] = record
        self._told.set()

    async def _hear(self, started: Running) -> None:
        network = started.control_plane.identity_address.rsplit(".", 2)[0]
        variables = self.canaries.caller_variables(BARE, self.bare_target(started))
        variables |= {program.SOURCE: f"{network}.0.3", "PATH": os.environ.get("PATH", os.defpath)}
        command = Command([*self.canaries.words, "call"], variables, started.run.path)
        bare = Child(command, self.heard, lambda _why: None)
        bare.start()
        try:
            await self._until(lambda: self.evidence.is_whole, self.canaries.seconds + _RECORD_SECONDS)
            await self._until(lambda: not self.evidence.unrecorded, _RECORD_SECONDS)
        finally:
            await bare.stop()

    async def _until(self, holds: Any, seconds: float) -> None:
        """Wait until something holds, or no longer."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pass


class _Nowhere(io.TextIOBase):
    """Takes text and keeps none."""

    def write(self, text: str) -> int:
        """Take it."""
        return len(text)


class _Ears(Screen):
    """Hears what applications say, and what proxies deny; shows nothing."""

    def __init__(self, run: Loopback) -> None:
        super().__init__(quiet=True, stream=cast(TextIO, _Nowhere()))
        self._run = run

    def application(self, pod: str, line: str) -> None:
        """Take a caller's line."""
        del pod
        self._run.heard(line)

    def denial(self, pod: str, record: Mapping[str, Any]) -> None:
        """Take a proxy's line."""
        del pod
        self._run.recorded(record)
