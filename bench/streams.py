"""What a proxy's stream costs policyd: simulated proxies on one policyd, in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench.fleet import Fleet, Place, cpu_seconds, follow, follow_on, most_resident, resident
from bench.world import policy
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.model.names import AUDIENCE
from policyd.up.addresses import free_range
from policyd.up.control_plane import ControlPlane
from policyd.up.run_folder import RunFolder
from policyd.up.screen import Screen
from policyd.up.tokens import Holder
from policyd_api.v1.identity_grpc import IdentityStub
from policyd_api.v1.identity_pb2 import CertifyRequest
from servicekit.channel import VerifiedChannel
from servicekit.renewal import make_csr
from servicekit.svid import Svid
from servicekit.tls import client_context

SIZES = (100, 1000)
RECONNECTING = 2_000
REPLICAS = 10
ROUNDS = 20
CERTIFYING = 16
_NAMESPACE, _TRUST_DOMAIN = "bench", TrustDomain("bench.local")


def run() -> list[dict[str, object]]:
    """Return a row for each number of proxies: policyd's memory and CPU a stream, a change's way to all."""
    rows = [uvloop.run(_measure(proxies)) for proxies in SIZES]
    return [*rows, uvloop.run(_reconnect(RECONNECTING))]


async def _measure(proxies: int) -> dict[str, object]:
    with TemporaryDirectory() as name:
        manifests = Path(name)
        async with _control_plane(manifests, proxies) as plane:
            place, svids = await _certify(plane, proxies)
            pid = plane.child("policyd").pid or 0
            before_them, cpu, began = resident(pid), cpu_seconds(pid), perf_counter()
            fleet, streams = Fleet(), []
            for number, svid in enumerate(svids):
                streams.append(asyncio.create_task(follow(place, fleet, number, svid)))
            await fleet.until(proxies, {})
            connected, connecting = perf_counter() - began, cpu_seconds(pid) - cpu
            kib = (resident(pid) - before_them) / proxies
            times, cpu = [], cpu_seconds(pid)
            for number in range(ROUNDS):
                before = dict(fleet.acked)
                (manifests / "deny.json").write_text(json.dumps(_deny(number)))
                began = perf_counter()
                await fleet.until(proxies, before)
                times.append(perf_counter() - began)
            telling = cpu_seconds(pid) - cpu
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
    times.sort()
    return {
        "bench": "streams",
        "proxies": proxies,
        "all_connected_s": round(connected, 2),
        "connect_cpu_ms": round(connecting / proxies * 1e3, 2),
        "kib_a_stream": round(kib, 1),
        "change_cpu_ms": round(telling / proxies / ROUNDS * 1e3, 3),
        "to_last_ack_p50_ms": round(times[len(times) // 2] * 1e3),
        "to_last_ack_max_ms": round(times[-1] * 1e3),
    }


async def _reconnect(proxies: int) -> dict[str, object]:
    """All proxies come back at once to a policyd that begins again. They share the cores with it."""
    with TemporaryDirectory() as name:
        async with _control_plane(Path(name), proxies) as plane:
            fleet, streams = Fleet(), []
            place, svids = await _certify(plane, proxies)
            for number, svid in enumerate(svids):
                streams.append(asyncio.create_task(follow_on(place, fleet, number, svid)))
            await fleet.until(proxies, {})
            policyd = plane.child("policyd")
            steady = resident(policyd.pid or 0)
            await policyd.stop()
            fleet.acked.clear()
            began = perf_counter()
            policyd.start()
            await fleet.until(1, {})
            first = perf_counter() - began
            await fleet.until(proxies, {})
            all_back, pid = perf_counter() - began, policyd.pid or 0
            row = {
                "bench": "reconnect",
                "proxies": proxies,
                "first_back_s": round(first, 1),
                "all_back_s": round(all_back, 1),
                "cpu_s": round(cpu_seconds(pid), 1),
                "steady_mib": round(steady / 1024),
                "most_mib": round(most_resident(pid) / 1024),
            }
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
    return row


@asynccontextmanager
async def _control_plane(manifests: Path, proxies: int) -> AsyncIterator[ControlPlane]:
    run = RunFolder()
    plane = ControlPlane(run, free_range(), str(_TRUST_DOMAIN), manifests)
    for number in range(proxies):
        (run.pods / f"pod-{number}.json").write_text(json.dumps(_pod(number)))
    _write_policies(manifests, max(1, proxies // REPLICAS))
    try:
        await plane.start(Screen(quiet=True), lambda _name, _record: None)
        yield plane
    finally:
        await plane.stop()
        run.remove()


async def _certify(plane: ControlPlane, proxies: int) -> tuple[Place, list[Svid]]:
    """Get each proxy its certificate, as proxies do."""
    host, _, port = plane.identity_address.rpartition(":")
    root = plane.roots_file.read_bytes()
    roots = tuple(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(root))
    expected = SpiffeId.of_service_account(_TRUST_DOMAIN, "policyd", "identity")
    channel = VerifiedChannel(host, int(port), client_context(roots), expected)
    places = asyncio.Semaphore(CERTIFYING)

    async def one(number: int) -> Svid:
        holder = Holder(_NAMESPACE, _account(number), "sa", f"pod-{number}", f"uid-{number}")
        key = ec.generate_private_key(ec.SECP256R1())
        async with places:
            token = plane.tokens.mint(holder, AUDIENCE)
            answer = await IdentityStub(channel).Certify(CertifyRequest(csr=make_csr(key), token=token))
        return Svid.of(key, answer.chain)

    policyd = SpiffeId.of_service_account(_TRUST_DOMAIN, "policyd", "policyd")
    try:
        svids = await asyncio.gather(*(one(number) for number in range(proxies)))
    finally:
        channel.close()
    return Place(plane.policy_address, policyd, roots), list(svids)


def _account(number: int) -> str:
    return f"w{number // REPLICAS}"


def _pod(number: int) -> dict[str, object]:
    owner = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": _account(number),
        "uid": "",
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{number}",
            "namespace": _NAMESPACE,
            "uid": f"uid-{number}",
            "labels": {"app": _account(number)},
            "ownerReferences": [owner],
        },
        "spec": {
            "serviceAccountName": _account(number),
            "containers": [{"name": "app", "ports": [{"containerPort": 8080}]}, {"name": "policyd-proxy"}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.{1 + number // 50_000}.{number // 250 % 200}.{number % 250 + 1}",
        },
    }


def _write_policies(manifests: Path, workloads: int) -> None:
    objects: list[dict[str, object]] = []
    for number in range(workloads):
        name = f"w{number}"
        spec: dict[str, object] = {
            "podSelector": {"matchLabels": {"app": name}},
            "port": 8080,
            "proxyProtocol": "HTTP/1",
        }
        meta = {"namespace": _NAMESPACE, "name": name}
        server: dict[str, object] = {"kind": "Server", "metadata": meta, "spec": spec}
        objects += [
            server | {"apiVersion": "policyd.dev/v1alpha1"},
            *(policy(_NAMESPACE, name, each) for each in range(REPLICAS)),
        ]
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    (manifests / "policies.json").write_text(json.dumps(listed))


def _deny(number: int) -> dict[str, object]:
    """Return a Deny in the namespace: a change of every table."""
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": _NAMESPACE, "name": "deny"},
        "spec": {
            "action": "Deny",
            "targetRef": {"kind": "Namespace", "name": _NAMESPACE},
            "requiredAuthenticationRefs": [],
            "when": [{"path": {"prefix": f"/closed-{number}"}}],
        },
    }
