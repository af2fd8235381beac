"""`policyctl up DIR`, from start to end: whatever happens, no process and no file is left."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyd.errors import SourceError
from policyd.model.names import AUDIENCE
from policyd.sources.files import load
from policyd.sources.folder import Folder
from policyd.up.addresses import free_range
from policyd.up.control_plane import NAMESPACE, ControlPlane, account_uid
from policyd.up.kubelet import Kubelet
from policyd.up.programs import find_proxy
from policyd.up.replica import Surroundings
from policyd.up.run_folder import SOCKET, RunFolder
from policyd.up.screen import Screen
from policyd.up.up_socket import UpSocket, ask_socket

_ASK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Running:
    """A run that has started: what a demo or a test looks at."""

    folder: Path
    run: RunFolder
    trust_domain: str
    kubelet: Kubelet
    control_plane: ControlPlane
    records: asyncio.Queue[dict[str, Any]]
    """Log records of identity and policyd; bounded, the newest are dropped where nobody takes them."""

    async def all_ready(self, seconds: float) -> None:
        """Wait until each pod is ready and each proxy knows it. SourceError names the others."""
        try:
            async with asyncio.timeout(seconds):
                while self.kubelet.unready or not self.kubelet.replicas:
                    self.kubelet.changed.clear()
                    await self.kubelet.changed.wait()
                while not await self._is_known():
                    await asyncio.sleep(_ASK_SECONDS)
        except TimeoutError:
            names = ", ".join(self.kubelet.unready) or "no pod"
            raise SourceError(f"not ready after {seconds:.0f} s: {names}; --verbose shows why") from None

    async def _is_known(self) -> bool:
        """Whether policyd has seen that all pods run, and all proxies what follows from it."""
        try:
            status = await ask_socket(self.control_plane.status_socket, {"ask": "status"})
        except ConnectionError:
            return False
        pods = {f"{replica.namespace}/{replica.name}" for replica in self.kubelet.replicas.values()}
        return pods <= set(status["running"]) and pods <= {
            proxy["pod"] for proxy in status["proxies"] if proxy["current"]
        }


@asynccontextmanager
async def running(folder: Path, screen: Screen, socket: str = SOCKET) -> AsyncIterator[Running]:
    """Run the workloads of a folder while the block lasts. Raises SourceError where it can't be begun.

    `socket` is the name of the one it answers on: of a name there is one run at a time.
    """
    proxy = find_proxy()
    _refuse_unreadable(folder)
    run = RunFolder()
    try:
        async with _started(folder.resolve(), run, proxy, screen, socket) as started:
            yield started
    finally:
        run.remove()


def _refuse_unreadable(folder: Path) -> None:
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    unreadable = load([folder]).unreadable
    if unreadable:
        raise SourceError("\n".join(problem.text for problem in unreadable))


@asynccontextmanager
async def _started(
    folder: Path, run: RunFolder, proxy: Path, screen: Screen, socket_name: str
) -> AsyncIterator[Running]:
    addresses = free_range()
    trust_domain = f"up-{secrets.token_hex(4)}.local"
    plane = ControlPlane(run, addresses, trust_domain, folder)
    around = Surroundings(
        trust_domain,
        NAMESPACE,
        plane.identity_address,
        plane.policy_address,
        plane.roots_file,
        AUDIENCE,
        addresses.node,
        proxy,
        plane.tokens,
        account_uid,
    )
    kubelet = Kubelet(run, addresses, around, screen)
    started = Running(folder, run, trust_domain, kubelet, plane, asyncio.Queue(1000))
    socket = UpSocket(run.path.parent / socket_name, _asks(started))
    await socket.open()
    watch = Folder(folder)
    following: asyncio.Task[None] | None = None
    try:
        screen.say(
            f"trust domain {trust_domain}; pods in {addresses.network}, which counts as a cluster network"
        )
        screen.say("explicit listeners on one machine: to try and test, no isolation boundary")
        await plane.start(screen, lambda _name, record: _offer(started.records, record))
        await kubelet.take(watch.start())
        if not kubelet.replicas:
            raise SourceError(
                f"{folder}: no workload of it can be run here: none has a command of this machine"
            )
        following = asyncio.create_task(kubelet.follow(watch))
        yield started
    finally:
        watch.close()
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
        await kubelet.stop()
        await plane.stop()
        await socket.close()


def _offer(records: asyncio.Queue[dict[str, Any]], record: dict[str, Any]) -> None:
    with contextlib.suppress(asyncio.QueueFull):
        records.put_nowait(record)


def _asks(started: Running) -> dict[str, Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]]:
    async def of_policyd(question: Mapping[str, Any]) -> Mapping[str, Any]:
        return await ask_socket(started.control_plane.status_socket, question)

    async def status(question: Mapping[str, Any]) -> Mapping[str, Any]:
        pods = [
            {
                "pod": f"{replica.namespace}/{replica.name}",
                "ready": replica.ready,
                "address": replica.addresses.proxy,
                "uid": replica.uid,
                "listeners": {
                    each.target: f"{replica.addresses.application}:{each.listen}"
                    for each in replica.listeners
                },
            }
            for replica in started.kubelet.replicas.values()
        ]
        return {
            **await of_policyd(question),
            "folder": str(started.folder),
            "pods": pods,
            "rootsFile": str(started.control_plane.roots_file),
        }

    async def denial(question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the store; of the last moments, what the proxies wrote to stdout is known first."""
        kept = await of_policyd(question)
        found = started.kubelet.records.find(str(question.get("id"))) if kept.get("code") else None
        return kept if found is None else {"denial": found}

    return {
        "status": status,
        "denial": denial,
        **dict.fromkeys(("denials", "tables", "table"), of_policyd),
    }


async def until_interrupted() -> None:
    """Wait for SIGINT or SIGTERM."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    await over.wait()
