"""Each verdict of emojivoto's policy test that loopback can make, at the client and in the denial line."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from google.protobuf.empty_pb2 import Empty
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, StreamTerminatedError

from policyd.explain.answer import Decision
from policyd.explain.policytest import Caller, Case, find_tests
from policyd.explain.testrun import run

from .conftest import BOOKS
from .mesh import WAIT_SECONDS, Mesh, http, tls

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMOJIVOTO = BOOKS.parent / "emojivoto"
PORTS = {"http": 8080, "grpc": 8080, "prom": 8801}
VOTING = "emojivoto/voting-svc:8080"
VOTING_SERVICE = "/emojivoto.v1.VotingService"
OUT_OF_REACH = {
    "so does anybody, also without an identity": "comes from an address that isn't loopback's",
    "not on a port that nobody opened": "explicit listeners are there for declared ports only",
    "web votes from the cluster only": "comes from an address that isn't loopback's",
    "a foreign mesh doesn't": "no other trust domain is trusted, so its certificate never verifies",
    "from inside the cluster networks only": "comes from an address that isn't loopback's",
}


class Expected(NamedTuple):
    """A case, and what the engine says of it."""

    case: Case
    decision: Decision


def _expected() -> dict[str, Expected]:
    (file,) = find_tests([EMOJIVOTO]).files
    outcomes = [Expected(each.case, each.decision) for each in run(file) if each.decision is not None]
    return {each.case.name: each for each in outcomes}


CASES = _expected()


class Seen(NamedTuple):
    """What a client got: HTTP's status or gRPC's, None where the connection ended without one."""

    status: int | None
    decision: str | None = None


class Way(NamedTuple):
    """Where and how a request is made."""

    host: str
    port: int
    context: ssl.SSLContext | None = None


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of emojivoto whose bot makes one call and then waits: the tests are the visitors."""
    folder = tmp_path_factory.mktemp("emojivoto")
    shutil.copytree(EMOJIVOTO, folder, dirs_exist_ok=True)
    file = folder / "emojivoto.yaml"
    file.write_text(file.read_text().replace('value: "0.5"', 'value: "3600"'))
    return folder


def _way(mesh: Mesh, to: str, caller: Caller) -> Way:
    """As the caller's application where it is one of the pods; else at the pod called, with a certificate."""
    workload, _, port_name = to.rpartition(":")
    name, port = workload.rpartition("/")[2], PORTS.get(port_name) or int(port_name)
    if caller.service_account is None:
        return Way(*mesh.address(f"{name}-0", port))
    namespace, account = caller.service_account.split("/")
    if namespace == "emojivoto":
        return Way(*mesh.listener(f"{account}-0", f"emojivoto/{name}-svc:{80 if name == 'web' else port}"))
    context = tls(mesh.svid(caller.service_account), "policyd/1+http1" if port == 8801 else "policyd/1+h2")
    return Way(*mesh.address(f"{name}-0", port), context)


@asynccontextmanager
async def _channel(way: Way) -> AsyncIterator[Channel]:
    name = Configuration(ssl_target_name_override="any.test" if way.context else None)
    channel = Channel(way.host, way.port, ssl=way.context, config=name)
    try:
        yield channel
    finally:
        channel.close()


async def _call(channel: Channel, path: str) -> Seen:
    stream = UnaryUnaryMethod(channel, path, Empty, Empty).open(timeout=WAIT_SECONDS)
    try:
        async with stream:
            await stream.send_message(Empty(), end=True)
            await stream.recv_message()
            await stream.recv_trailing_metadata()
    except GRPCError as error:
        trailers: Any = stream.trailing_metadata or {}
        return Seen(error.status.value, trailers.get("x-policyd-decision"))
    except (OSError, StreamTerminatedError):
        return Seen(None)
    return Seen(0)


async def _http2(way: Way, method: str, path: str) -> Seen:
    assert way.context is None
    async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=WAIT_SECONDS) as client:
        try:
            answer = await client.request(method, f"http://{way.host}:{way.port}{path}")
        except httpx.TransportError:
            return Seen(None)
    return Seen(answer.status_code, answer.headers.get("x-policyd-decision"))


async def _make(mesh: Mesh, case: Case) -> Seen:
    way = _way(mesh, case.to, case.from_)
    if case.grpc is not None:
        async with _channel(way) as channel:
            return await _call(channel, f"/{case.grpc.service}/{case.grpc.method}")
    assert case.http is not None
    if case.http.version == "2":
        return await _http2(way, case.http.method, case.http.path)
    address, network = (way.host, way.port), ".".join(way.host.split(".")[:2])
    answer = await http(
        address,
        case.http.method,
        case.http.path,
        context=way.context,
        source=f"{network}.0.3",  # nobody's address in the run's range, which is a cluster network
    )
    return Seen(answer.status or None, answer.headers.get("x-policyd-decision"))


def _records(mesh: Mesh) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in mesh.up.kubelet.records.last(2000)}


async def _record(mesh: Mesh, seen: Seen, before: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The denial's line: by its id, or the one new line where the client saw no id."""
    if seen.decision is not None:
        return await mesh.denial(seen.decision)
    kubelet = mesh.up.kubelet
    async with asyncio.timeout(WAIT_SECONDS):
        while not (new := [record for key, record in _records(mesh).items() if key not in before]):
            kubelet.recorded.clear()
            await kubelet.recorded.wait()
    (found,) = new
    return found


async def test_what_is_out_of_reach_is_among_the_cases() -> None:
    assert OUT_OF_REACH.keys() <= CASES.keys()
    assert len(CASES) - len(OUT_OF_REACH) >= 19


@pytest.mark.parametrize("name", [name for name in CASES if name not in OUT_OF_REACH])
async def test_a_verdict_of_the_policy_test_is_the_proxys(mesh: Mesh, name: str) -> None:
    case, expected = CASES[name]
    before = _records(mesh)
    seen = await _make(mesh, case)
    assert seen.status == (expected.status if expected.grpc_status is None else expected.grpc_status), seen
    if expected.allowed:
        assert seen.decision is None
        return
    assert (seen.decision is None) == (expected.status is None)
    record = await _record(mesh, seen, before)
    for field in ("verdict", "reason", "status", "grpcStatus", "server", "route", "authorization"):
        attribute = {"grpcStatus": "grpc_status"}.get(field, field)
        assert record[field] == getattr(expected, attribute), (field, record)
    account = case.from_.service_account
    identity = account and f"spiffe://{mesh.up.trust_domain}/ns/{'/sa/'.join(account.split('/'))}"
    assert record["peer"]["identity"] == identity
    if case.grpc is not None:
        assert record["request"]["path"] == f"/{case.grpc.service}/{case.grpc.method}"
        assert record["request"]["version"] == "2"


async def test_anybody_sees_the_site(mesh: Mesh) -> None:
    assert (await http(mesh.address("web-0", 8080), "GET", "/")).status == 200


async def test_a_vote_on_the_site_is_two_grpc_calls_behind_it(mesh: Mesh) -> None:
    site = mesh.listener("vote-bot-0", "emojivoto/web-svc:80")
    before = json.loads((await http(site, "GET", "/api/leaderboard")).body)
    answer = await http(site, "GET", "/api/vote?choice=:doughnut:")
    assert (answer.status, json.loads(answer.body)["unicode"]) == (200, "🍩")
    after = json.loads((await http(site, "GET", "/api/leaderboard")).body)
    assert after[":doughnut:"] == before.get(":doughnut:", 0) + 1


async def test_the_site_hands_the_id_of_a_denial_behind_it_to_its_visitor(mesh: Mesh) -> None:
    answer = await http(mesh.listener("vote-bot-0", "emojivoto/web-svc:80"), "GET", "/api/vote?choice=:poop:")
    assert answer.status == 502
    record = await mesh.denial(json.loads(answer.body)["decision"])
    assert (record["pod"], record["reason"], record["grpcStatus"]) == ("voting-0", "no_route", 5)
    assert record["peer"]["identity"].endswith("/ns/emojivoto/sa/web")


async def test_a_denied_call_leaves_its_connection_to_the_others(mesh: Mesh) -> None:
    async with _channel(Way(*mesh.listener("web-0", VOTING))) as channel:
        methods = ("VoteGhost", "VotePoop", "VoteDoughnut", "VotePoop", "Results")
        calls = [_call(channel, f"{VOTING_SERVICE}/{method}") for method in methods]
        assert [each.status for each in await asyncio.gather(*calls)] == [0, 5, 0, 5, 0]


async def test_another_grpc_implementation_sees_the_same(mesh: Mesh) -> None:
    """grpcio: C, as most languages have it."""
    seen: list[tuple[int, str]] = []
    for pod in ("web-0", "vote-bot-0"):
        host, port = mesh.listener(pod, VOTING)
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            vote = channel.unary_unary(f"{VOTING_SERVICE}/VoteGhost")
            try:
                await vote(b"", timeout=WAIT_SECONDS)
                seen.append((0, ""))
            except grpc.aio.AioRpcError as error:
                trailers = dict(error.trailing_metadata() or ())
                seen.append((error.code().value[0], trailers.get("x-policyd-decision", "")))
    assert [status for status, _ in seen] == [0, 7]
    assert (await mesh.denial(seen[1][1]))["reason"] == "no_matching_rule"
