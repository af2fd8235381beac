"""P-19, WH-10: pods without a proxy are noticed, by the injector all the time and by `policyctl check`."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kubeapi.access import Access
from kubeapi.client import Client
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.inject import Injected, inject
from policyd.admission.injection import Injection
from policyd.admission.namespaces import NamespaceWatch
from policyd.admission.unmeshed import Unmeshed
from policyd.admission.unmeshed_watch import LOOK_SECONDS, UnmeshedWatch
from policyd.cli.main import run as policyctl
from policyd.install.configs import injection_of
from policyd.install.settings import InstallSettings
from tests.api import objects
from tests.api.injector_process import LABEL, running, until
from tests.api.rig import ApiServer

PROMISED_SECONDS = 60.0
WAIT_SECONDS = 30.0
INJECTION = Injection(image="localhost/policyd-proxy:0.1.0")

Json = dict[str, Any]


def enrol(api: ApiServer, namespace: str, *more: str) -> None:
    """Label a namespace that has pods already: nothing is registered here that would have injected them."""
    api.kubectl("label", "namespace", namespace, f"{LABEL}=enabled", *more)


def meshed_spec(injection: Injection = INJECTION) -> Json:
    pod = {"metadata": {"name": "app"}, "spec": {"containers": [{"name": "app", "image": "localhost/app:1"}]}}
    found = inject(pod, NamespaceFacts("any", {LABEL: "enabled"}), injection)
    assert isinstance(found, Injected)
    return dict(found.pod["spec"])


class Watching:
    """The watch in this process, and what it told."""

    def __init__(self, client: Client) -> None:
        self.namespaces = NamespaceWatch(client)
        self.watch = UnmeshedWatch(client, self.namespaces.find, INJECTION, look_seconds=0.2)
        self.told: list[tuple[Unmeshed, ...]] = []
        self.changed = asyncio.Event()
        self.watch.listeners.append(self._take)

    def _take(self, findings: tuple[Unmeshed, ...]) -> None:
        self.told.append(findings)
        self.changed.set()

    async def until(self, wanted: dict[str, str], namespace: str) -> None:
        """Wait until pods of a namespace are told of with these reasons and no others."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.of(namespace) != wanted:
                self.changed.clear()
                await self.changed.wait()

    def of(self, namespace: str) -> dict[str, str]:
        return {each.name: each.reason for each in self.watch.findings if each.namespace == namespace}


@pytest.mark.promise("P-19")
async def test_p_19_wh_10_what_a_namespace_holds_is_told_of_as_it_changes(api: ApiServer) -> None:
    namespace = await asyncio.to_thread(objects.create_namespace, api)
    create = objects.create_pod
    old = create(api, namespace, name="old")
    create(api, namespace, name="host", spec={"hostNetwork": True})
    create(api, namespace, name="well", spec=meshed_spec())
    out = {"annotations": {"policyd.dev/inject": "disabled"}}
    create(api, namespace, name="out", metadata=out)
    async with Client(Access.kubeconfig(api.kubeconfig), "test") as client:
        watching = Watching(client)
        tasks = [asyncio.create_task(each.run()) for each in (watching.namespaces, watching.watch)]
        try:
            await watching.namespaces.listed()
            assert watching.of(namespace) == {}
            await asyncio.to_thread(enrol, api, namespace)
            every = {"old": "no_proxy", "host": "impossible", "out": "no_proxy"}
            await watching.until(every, namespace)
            await asyncio.to_thread(enrol, api, namespace, "policyd.dev/opt-out=allowed", "--overwrite")
            await watching.until({"old": "no_proxy", "host": "impossible"}, namespace)
            forged = meshed_spec()
            forged["initContainers"][2]["image"] = "localhost/another:1"
            create(api, namespace, name="forged", spec=forged)
            await watching.until({"old": "no_proxy", "host": "impossible", "forged": "not_ours"}, namespace)
            down = {
                "containerStatuses": [status("app", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})],
                "initContainerStatuses": [
                    status("policyd-proxy", {"waiting": {"reason": "CrashLoopBackOff"}})
                ],
            }
            objects.patch_status(api, f"/api/v1/namespaces/{namespace}/pods/well", down)
            objects.delete_pod(api, old)
            await watching.until(
                {"host": "impossible", "forged": "not_ours", "well": "not_running"}, namespace
            )
            api.kubectl("label", "namespace", namespace, f"{LABEL}-")
            await watching.until({}, namespace)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def status(name: str, state: Json) -> Json:
    return {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 3, "state": state}


@pytest.mark.promise("P-19")
def test_p_19_wh_10_the_injector_counts_them_and_says_which(api: ApiServer) -> None:
    assert LOOK_SECONDS * 3 < PROMISED_SECONDS
    namespace = objects.create_namespace(api)
    pod = objects.create_pod(api, namespace)
    with running(api) as injector:
        enrol(api, namespace)

        def counted() -> float:
            with urllib.request.urlopen(injector.metrics_url, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            (line,) = [
                each
                for each in lines
                if each.startswith('policyd_admission_unmeshed_pods{reason="no_proxy"}')
            ]
            return float(line.split()[-1])

        until(lambda: counted() >= 1, PROMISED_SECONDS)
        told = [each for each in injector.events if each.get("event") == "unmeshed_pod"]
        assert (f"{namespace}/{pod.name}", "no_proxy") in {(each["pod"], each["reason"]) for each in told}
        objects.delete_pod(api, pod)
        until(lambda: any(each.get("event") == "unmeshed_pod_over" for each in injector.events))


@pytest.mark.promise("P-19")
def test_p_19_wh_10_check_names_them(
    api: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # `check` names the first few pods only: those that other tests left aren't to be among them.
    api.kubectl("label", "namespaces", "--all", f"{LABEL}-")
    namespace = objects.create_namespace(api)
    policyd = objects.unique("policyd")
    objects.create_namespace(api, policyd)
    stored = {
        "metadata": {"name": "policyd-install"},
        "data": {"settings.json": json.dumps({"namespace": policyd})},
    }
    api.request("POST", f"/api/v1/namespaces/{policyd}/configmaps", stored)
    objects.create_pod(api, namespace, name="bare")
    objects.create_pod(api, namespace, name="old-proxy", spec=of_version(policyd, "0.0.1"))
    enrol(api, namespace)
    words = ["check", "--control-plane", "-n", policyd, "--kubeconfig", str(api.kubeconfig), "-o", "json"]
    assert policyctl(words) == 1
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    bare = found["every pod of an enrolled namespace has its proxy"]
    assert bare["result"] == "error"
    assert f"{namespace}/bare: spec.initContainers: no policyd-proxy" in bare["detail"]
    assert f"{namespace}/old-proxy" not in bare["detail"]
    assert "restart it" in bare["advice"]
    versions = found["every proxy is of the installed version"]
    assert versions["result"] == "warning"
    assert "1 of 0.0.1" in versions["detail"], "among those of other tests"
    bundles = found["every enrolled namespace has the trust bundle"]
    assert bundles["result"] == "error"
    assert namespace in bundles["detail"]


def of_version(policyd: str, version: str) -> Json:
    """What an install of that version in that namespace injected."""
    settings = InstallSettings.model_validate({"namespace": policyd, "images": {"tag": version}})
    return meshed_spec(injection_of(settings))
