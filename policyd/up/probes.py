"""Readiness probes, made from the node's address to the pod's, as the kubelet does (semantics T6)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from policyd.resources.workload import Container, HTTPGet, Probe

PROBE_SECONDS = 1.0
_MOST_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A declared probe and where it goes. `request` is None for one that only connects."""

    port: int
    request: bytes | None

    async def passes(self, node: str, pod: str) -> bool:
        """Whether the pod is ready, asked from the node's address; never longer than PROBE_SECONDS."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                reader, writer = await asyncio.open_connection(pod, self.port, local_addr=(node, 0))
                try:
                    return await _answered(reader, writer, self.request)
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, ValueError):
            return False


async def _answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes | None
) -> bool:
    if request is None:
        return True
    writer.write(request)
    await writer.drain()
    status = (await reader.readline())[:_MOST_HEAD_BYTES].split(b" ")
    return len(status) > 1 and status[1].isdigit() and 200 <= int(status[1]) < 400


def readiness(containers: Iterable[Container], pod: str) -> list[ProbeTarget]:
    """Return the readiness probes that go over the network; others can't be made here."""
    found: list[ProbeTarget] = []
    for container in containers:
        probe = container.readiness_probe
        target = None if probe is None else _target(probe, container, pod)
        if target is not None:
            found.append(target)
    return found


def _target(probe: Probe, container: Container, pod: str) -> ProbeTarget | None:
    if probe.http_get is not None:
        port = _number(probe.http_get.port, container)
        return None if port is None else ProbeTarget(port, _request(probe.http_get, f"{pod}:{port}"))
    if probe.tcp_socket is not None:
        port = _number(probe.tcp_socket.port, container)
        return None if port is None else ProbeTarget(port, None)
    return None


def _request(probe: HTTPGet, host: str) -> bytes:
    path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
    headers = {"Host": host, "User-Agent": "kube-probe/1.34", "Accept": "*/*"}
    headers |= {header.name: header.value for header in probe.http_headers}
    lines = [
        f"GET {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _number(port: int | str, container: Container) -> int | None:
    if isinstance(port, int):
        return port
    return next((each.container_port for each in container.ports if each.name == port), None)
