"""Network namespaces as pods: a bridge where the node is, and for each pod a link to it, IPv4 and IPv6.

What is made here is removed here; nothing of the machine's own namespace is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cluster import needs

NODE_V4, NODE_V6 = "10.77.0.1", "fd77::1"
"""The node's end of the bridge: every pod's default gateway, and where a kubelet's probes come from."""
ELSEWHERE_V4 = "10.77.0.99"
"""Another address of the node's, from which no probe comes."""

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_RUN = Path("/run/netns")


def needed(*programs: str) -> None:
    """Skip, loudly, where namespaces can't be made."""
    if os.geteuid() != 0:
        pytest.skip("INTERCEPTION NOT TRIED: making network namespaces needs root")
    for program in ("ip", "nsenter", "setpriv", *programs):
        if shutil.which(program) is None:
            pytest.skip(f"INTERCEPTION NOT TRIED: `{program}` isn't on this machine (iproute2, util-linux)")


def run(*words: str) -> str:
    """Run a program to its end; what it wrote. Raises where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Namespace:
    """One network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        """Run `ip` inside."""
        return run("ip", "-n", self.name, *words)

    @property
    def enter(self) -> list[str]:
        """The words that run a program inside."""
        return ["nsenter", f"--net={_RUN / self.name}"]

    def run(self, *words: str, uid: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end, as a user."""
        become = [] if uid is None else ["setpriv", "--reuid", str(uid), "--clear-groups"]
        words = (*self.enter, *become, *words)
        return subprocess.run(
            words, capture_output=True, text=True, timeout=60, env=needs.environment(), check=False
        )

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are of this namespace."""
        assert threading.current_thread() is threading.main_thread()
        with Path("/proc/thread-self/ns/net").open() as own, (_RUN / self.name).open() as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a listening socket inside."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            return socket.create_server((address, port), family=family)

    def socket(self, address: str) -> socket.socket:
        """Return a socket inside that can dial an address."""
        with self.inside():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.setblocking(False)
        return made

    def remove(self) -> None:
        run("ip", "netns", "del", self.name)


def _enter(file: int) -> None:
    if _LIBC.setns(file, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Link:
    """A node with a bridge, and pods on it."""

    def __init__(self) -> None:
        self._prefix = f"pt-{secrets.token_hex(3)}"
        self.node = Namespace(f"{self._prefix}-node")
        self.pods: dict[str, Namespace] = {}
        self.node.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
        _addresses(self.node, "br0", [f"{NODE_V4}/24", f"{ELSEWHERE_V4}/24", f"{NODE_V6}/64"])

    def add(self, name: str, v4: str, v6: str) -> Namespace:
        """Connect a pod with two addresses."""
        pod = Namespace(f"{self._prefix}-{name}")
        self.pods[name] = pod
        outer = f"v{len(self.pods)}"
        self.node.ip(
            "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", pod.name
        )  # fmt: skip
        self.node.ip("link", "set", outer, "master", "br0", "up")
        _addresses(pod, "eth0", [f"{v4}/24", f"{v6}/64"])
        pod.ip("route", "add", "default", "via", NODE_V4)
        pod.ip("-6", "route", "add", "default", "via", NODE_V6)
        return pod

    def remove(self) -> None:
        for namespace in (*self.pods.values(), self.node):
            namespace.remove()


def _addresses(namespace: Namespace, device: str, addresses: Sequence[str]) -> None:
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        namespace.ip("addr", "add", address, "dev", device, *nodad)
    namespace.ip("link", "set", device, "up")
