"""The pod `vault`, which answers HTTP/1, gRPC and lines on TCP, and the account `caller` that may call it."""

from __future__ import annotations

from pathlib import Path

from .pods import SLEEPER, container, pod

HTTP, GRPC, TCP = "http", "grpc", "tcp"
PORTS = {HTTP: 7500, GRPC: 7400, TCP: 7600}
ALL = (HTTP, GRPC, TCP)
_HERE = Path(__file__).parent

_HTTP = container(_HERE / "quick_app.py", {HTTP: PORTS[HTTP], TCP: PORTS[TCP]}, ECHO_PORT=str(PORTS[TCP]))
_GRPC = container(_HERE / "greeter_app.py", {GRPC: PORTS[GRPC]})
WORKLOADS = pod("vault", "vaults", _HTTP, _GRPC) + pod("caller", "callers", SLEEPER)
