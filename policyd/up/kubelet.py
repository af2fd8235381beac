"""Keeps the pods that the manifests ask for, while the manifests change."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyd.index.world import World
from policyd.model.finding import Finding
from policyd.model.names import CORE
from policyd.sources.events import Batch, Deleted
from policyd.sources.folder import Folder
from policyd.up.addresses import AddressRange
from policyd.up.plan import Template, runnable, templates
from policyd.up.records import Records
from policyd.up.replica import Replica, Surroundings
from policyd.up.run_folder import RunFolder
from policyd.up.screen import Screen
from policyd.up.services import ServiceListeners
from policyd.up.tokens import write_private


class Kubelet:
    """Pods by namespace and name; a name is a workload's and a place in it, so a replaced pod keeps it."""

    def __init__(self, run: RunFolder, addresses: AddressRange, around: Surroundings, screen: Screen) -> None:
        self.records = Records()
        self.replicas: dict[tuple[str, str], Replica] = {}
        self.changed = asyncio.Event()
        """Set whenever a pod came, went, or became ready or not."""
        self.recorded = asyncio.Event()
        """Set whenever a denial was recorded."""
        self._run = run
        self._addresses = addresses
        self._around = around
        self._screen = screen
        self._world = World()
        self._listeners = ServiceListeners()
        self._watchers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._told: set[str] = set()
        self._skipped: set[str] = set()

    @property
    def unready(self) -> list[str]:
        """Names of the pods that aren't ready now."""
        return [replica.name for replica in self.replicas.values() if not replica.ready]

    async def take(self, batch: Batch) -> None:
        """Take over a change of the manifests, and make the pods follow."""
        self._world.apply(
            (event.key, None if isinstance(event, Deleted) else event.object) for event in batch.events
        )
        found = [
            finding
            for event in batch.events
            if not isinstance(event, Deleted)
            for finding in event.object.findings
        ]
        self._report([*batch.findings, *found])
        await self._reconcile()

    async def follow(self, folder: Folder) -> None:
        """Follow the manifests until cancelled."""
        async for batch in folder.batches():
            await self.take(batch)

    async def stop(self) -> None:
        """End all pods."""
        await asyncio.gather(*(self._remove(name) for name in list(self.replicas)))

    def _report(self, findings: list[Finding]) -> None:
        """Say each problem once while it lasts."""
        texts = {finding.text: finding for finding in findings}
        for text in texts.keys() - self._told:
            self._screen.problem(text)
        self._told = set(texts)

    async def _reconcile(self) -> None:
        wanted = dict(self._wanted())
        gone = [
            name
            for name, replica in self.replicas.items()
            if name not in wanted or wanted[name].digest != replica.template.digest
        ]
        await asyncio.gather(*(self._remove(name) for name in gone))
        listeners = self._listeners.of(self._world.of_kind(CORE, "Service"))
        for name, template in wanted.items():
            if name not in self.replicas:
                self._add(name, template)
                self.replicas[name].start(listeners, self._screen, self._on_record)

    def _wanted(self) -> list[tuple[tuple[str, str], Template]]:
        found = templates(self._world.objects[key] for key in sorted(self._world.objects))
        return [
            ((template.owner.namespace, f"{template.owner.name}-{index}"), template)
            for template in found
            for index in range(template.replicas)
            if self._runs(template)
        ]

    def _runs(self, template: Template) -> bool:
        """Whether anything of the pod can be run here; what is left out is said once."""
        run, skipped = runnable(template)
        for each in skipped:
            text = f"skipped {each.pods_of.text}, container {each.container}: {each.why}"
            if text not in self._skipped:
                self._skipped.add(text)
                self._screen.say(text)
        return bool(run)

    def _add(self, name: tuple[str, str], template: Template) -> None:
        replica = Replica(name[1], template, self._around, self._addresses.next_pod(), self._run.replicas)
        self.replicas[name] = replica
        self._write(replica)
        self._watchers[name] = asyncio.create_task(replica.follow_readiness(self._on_readiness))

    async def _remove(self, name: tuple[str, str]) -> None:
        replica, watcher = self.replicas.pop(name), self._watchers.pop(name)
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        replica.ready = False
        self._write(replica)  # nobody is sent to a pod that ends
        await replica.stop()
        self._file(replica).unlink(missing_ok=True)
        self.changed.set()

    def _on_readiness(self, replica: Replica) -> None:
        self._write(replica)
        state = "is ready" if replica.ready else "is not ready"
        self._screen.say(f"{replica.namespace}/{replica.name} {state}, at {replica.addresses.proxy}")
        self.changed.set()

    def _on_record(self, replica: Replica, record: Mapping[str, Any]) -> None:
        self.records.keep(record)
        self.recorded.set()
        self._screen.denial(replica.name, record)

    def _write(self, replica: Replica) -> None:
        write_private(self._file(replica), json.dumps(replica.manifest()))

    def _file(self, replica: Replica) -> Path:
        return self._run.pods / f"{replica.namespace}_{replica.name}.json"
