"""P-20 in a cluster, as far as an API server without a kubelet goes: set out, read, and taken away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kubeapi.access import Access
from kubeapi.client import Client
from policyd.canary.cluster import OUT, InCluster
from policyd.canary.evidence import expected
from policyd.canary.flock import BARE, CALLER, CANARIES, SERVER, STRANGER
from policyd.canary.nest import LABEL, PREFIX, Nest
from policyd.checkup.check import Reported, Result
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run as policyctl
from policyd.install.settings import InstallSettings
from policyd.model.names import TRUST_BUNDLE
from tests.api import objects
from tests.api.injector_process import running
from tests.api.rig import ApiServer, RigError

WAIT_SECONDS = 30.0
POLL_SECONDS = 0.05

Json = dict[str, Any]


@pytest.fixture(scope="module")
def crds(api: ApiServer) -> None:
    """The kinds that canaries are made of."""
    for file in (Path(__file__).parents[2] / "crds").glob("*.yaml"):
        api.apply(file)
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def homes(api: ApiServer) -> dict[str, str]:
    """The canaries' namespaces and their phases; nothing ends them for good here."""
    found = api.request("GET", f"/api/v1/namespaces?labelSelector={LABEL}%3Dtrue")["items"]
    return {each["metadata"]["name"]: each["status"]["phase"] for each in found}


class Cluster:
    """In the place of identity, a scheduler and a kubelet, for the namespaces of canaries."""

    def __init__(self, api: ApiServer, *, bundles: bool = True, addresses: bool = True) -> None:
        self._api = api
        self._bundles, self._addresses = bundles, addresses
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._before = set(homes(api))
        self.made: dict[str, Json] = {}
        """The last pods of each name, as they were stored."""

    def __enter__(self) -> Cluster:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        done: set[tuple[str, str]] = set()
        while not self._over.wait(POLL_SECONDS):
            for name, phase in homes(self._api).items():
                if name in self._before or phase != "Active":
                    continue
                if self._bundles and (name, "") not in done:
                    done.add((name, ""))
                    bundle = {"metadata": {"name": TRUST_BUNDLE}, "data": {"ca.pem": ""}}
                    self._api.request("POST", f"/api/v1/namespaces/{name}/configmaps", bundle)
                with contextlib.suppress(RigError):  # the namespace went meanwhile
                    for pod in self._api.request("GET", f"/api/v1/namespaces/{name}/pods")["items"]:
                        self._start(name, pod, done)

    def _start(self, namespace: str, pod: Json, done: set[tuple[str, str]]) -> None:
        name = pod["metadata"]["name"]
        self.made[name] = pod
        if not self._addresses or (namespace, name) in done:
            return
        done.add((namespace, name))
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": objects.NODE}}
        self._api.request("POST", f"{path}/binding", binding)
        status = {"phase": "Running", "podIP": "10.9.0.1", "podIPs": [{"ip": "10.9.0.1"}]}
        objects.patch_status(self._api, path, status)


async def report(api: ApiServer, seconds: float, kubeconfig: Path | None = None) -> dict[str, Result]:
    async with Client(Access.kubeconfig(kubeconfig or api.kubeconfig), "policyctl") as client:
        lines = await InCluster(client, InstallSettings(), seconds).report()
    assert [each.text for each in lines] == [OUT, *(each.does for each in CANARIES)]
    return named(lines)


def named(lines: list[Reported]) -> dict[str, Result]:
    names = {each.does: each.name for each in CANARIES}
    return {names.get(each.text, OUT): each.result for each in lines}


@pytest.fixture
def gone(api: ApiServer, crds: None) -> Iterator[None]:
    """Whatever happens, no namespace of a canary stays."""
    before = set(homes(api))
    yield
    left = {name: phase for name, phase in homes(api).items() if name not in before}
    assert set(left.values()) <= {"Terminating"}
    for name in left:
        namespace = api.request("GET", f"/api/v1/namespaces/{name}")
        namespace["spec"]["finalizers"] = []
        api.request("PUT", f"/api/v1/namespaces/{name}/finalize", namespace)


@pytest.mark.promise("P-20")
async def test_p_20_without_an_injector_it_says_so(api: ApiServer, gone: None) -> None:
    with Cluster(api):
        found = await report(api, 20.0)
    out = found.pop(OUT)
    assert out.outcome == "error"
    assert "no policyd-proxy" in out.detail
    assert "mutatingwebhookconfigurations" in out.advice
    assert {each.outcome for each in found.values()} == {"skipped"}


@pytest.mark.promise("P-20")
async def test_p_20_without_identity_it_says_so(api: ApiServer, gone: None) -> None:
    found = await report(api, 1.0)
    assert TRUST_BUNDLE in found[OUT].detail
    assert "identity" in found[OUT].advice


@pytest.mark.promise("P-20")
async def test_p_20_where_no_kubelet_runs_it_ends_in_time_and_says_what_is_stuck(
    api: ApiServer, gone: None
) -> None:
    loop = asyncio.get_running_loop()
    with running(api), Cluster(api, addresses=False) as cluster:
        began = loop.time()
        found = await report(api, 5.0)
        assert loop.time() - began < 5.0 + WAIT_SECONDS
    assert found[OUT].detail == "the server has no address: Pending, and no kubelet says why"
    assert set(cluster.made) == {SERVER}
    containers = [each["name"] for each in cluster.made[SERVER]["spec"]["initContainers"]]
    assert containers == ["policyd-redirect", "policyd-validate", "policyd-proxy"]


@pytest.mark.promise("P-20")
async def test_p_20_pods_that_say_nothing_are_no_success(api: ApiServer, gone: None) -> None:
    with running(api), Cluster(api) as cluster:
        found = await report(api, 8.0)
    assert set(cluster.made) == {SERVER, CALLER, STRANGER, BARE}
    assert "initContainers" not in cluster.made[BARE]["spec"]
    assert found.pop(OUT).outcome == "ok"
    assert {each.outcome for each in found.values()} == {"error"}
    assert all("not tried" in each.detail for each in found.values())


async def test_p_20_who_may_not_is_told_so_and_nothing_is_made(api: ApiServer, gone: None) -> None:
    shop = objects.create_namespace(api)
    nobody = api.write_kubeconfig(f"{shop}:default", objects.account_token(api, shop, "default"))
    before = homes(api)
    found = await report(api, 5.0, nobody)
    assert {each.outcome for each in found.values()} == {"skipped"}
    assert homes(api) == before


async def test_p_20_what_was_left_behind_is_removed_and_nothing_elses(
    api: ApiServer, gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = objects.unique(PREFIX + "left"), objects.unique("shop")
    for name in (mine, theirs):
        objects.create_namespace(api, name, labels={LABEL: "true"})
    await report(api, 1.0)
    assert homes(api)[mine] == "Active", "another run may live there"
    monkeypatch.setattr("policyd.canary.cluster.LONGEST_SECONDS", -1)  # everything there is, is old
    found = await report(api, 1.0)
    assert TRUST_BUNDLE in found[OUT].detail, "its own namespace stays while it runs"
    assert homes(api)[mine] == "Terminating"
    assert homes(api)[theirs] == "Active", "not of our name"
    for name in (theirs,):
        api.request("DELETE", f"/api/v1/namespaces/{name}")


async def test_p_20_an_interrupted_run_is_cleared_up(api: ApiServer, gone: None) -> None:
    before = set(homes(api))
    run = asyncio.create_task(report(api, 60.0))
    async with asyncio.timeout(WAIT_SECONDS):
        while not set(homes(api)) - before:
            await asyncio.sleep(POLL_SECONDS)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    assert {phase for name, phase in homes(api).items() if name not in before} == {"Terminating"}


class Kubelet:
    """Answers for containers' logs, as the API server asks a kubelet; nothing else of one."""

    def __init__(self, api: ApiServer, lines: Mapping[tuple[str, str], list[Json]]) -> None:
        texts = {key: "".join(json.dumps(line) + "\n" for line in told) for key, told in lines.items()}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, _, _, pod, container = self.path.partition("?")[0].split("/")
                body = texts.get((pod, container), "").encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*api.clients.issue("kubelet", serving=("127.0.0.1",)))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        objects.patch_status(api, f"/api/v1/nodes/{objects.NODE}", status)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def logs(folder: Path, **changed: Json) -> dict[tuple[str, str], list[Json]]:
    """What callers and the server's proxy write where all is well, but for what is `changed` by canary."""
    nest = Nest(("policyd-canary",), "i")
    pods = [nest.server(), *(nest.caller(role, "") for role in (CALLER, STRANGER, BARE))]
    decisions = expected(
        [nest.home(), *nest.accounts(), *nest.policies(), *pods], folder, "cluster.local", datetime.now(UTC)
    )
    told: dict[tuple[str, str], list[Json]] = {(SERVER, "policyd-proxy"): [{"message": "started"}]}
    for each in CANARIES:
        line: Json = {"canary": each.name, "status": each.status, "source": "10.9.0.2"}
        if each.allowed:
            line["application"] = {"nonce": "n", "peer": "10.9.0.1"}
        else:
            decision = decisions[each.name]
            line["decision"] = f"id-{each.name}"
            record = {"event": "denial", "id": line["decision"], "reason": decision.reason}
            told[SERVER, "policyd-proxy"].append(record | {"authorization": decision.authorization})
        told.setdefault((each.role, "canary"), []).append(line | changed.get(each.name.replace(" ", "_"), {}))
    return told


@pytest.mark.promise("P-20")
async def test_p_20_what_pods_and_proxies_say_is_read_through_the_api_server(
    api: ApiServer, gone: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubelet = Kubelet(api, logs(tmp_path))
    try:
        with running(api), Cluster(api):
            found = await report(api, 30.0)
        assert {name: each.outcome for name, each in found.items()} == dict.fromkeys(found, "ok"), found
    finally:
        kubelet.close()
    passed = {"status": 200, "decision": None, "application": {"nonce": "n", "peer": "10.9.0.2"}}
    kubelet = Kubelet(api, logs(tmp_path, plaintext=passed))
    try:
        with running(api), Cluster(api):
            found = await report(api, 30.0)
    finally:
        kubelet.close()
    wrong = {name: each.detail for name, each in found.items() if each.outcome != "ok"}
    assert wrong == {"plaintext": "it reached the application past its proxy, from 10.9.0.2"}


def test_p_20_check_lets_them_out_where_policyd_is_and_nowhere_else(
    api: ApiServer, gone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "--canaries", "--kubeconfig", str(api.kubeconfig)]
    assert policyctl([*words, "-n", "nowhere"]) == ExitCode.NOT_FOUND
    assert "nowhere" in capsys.readouterr().err
    assert policyctl([*words, "--pre"]) == ExitCode.USAGE
