"""What `policyctl check` finds that doesn't fit together, made wrong in a real API server one at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from identity.spiffe_id import TrustDomain
from policyd.checkup import certificates, skew
from policyd.checkup.check import Category, Check, Result, run
from policyd.cli.cluster import Cluster
from policyd.install.issuer import make_issuer
from tests.api import objects
from tests.api.rig import ApiServer

Json = dict[str, Any]
CRDS = Path(__file__).parents[2] / "crds"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HOUR = timedelta(hours=1)


def asked(api: ApiServer, checks: Sequence[Check]) -> dict[str, Result]:
    async def ask(client: Any) -> dict[str, Result]:
        return {each.text: each.result async for each in run(client, [Category("c", tuple(checks))])}

    return Cluster(api.kubeconfig).ask(ask)


@pytest.fixture
def node(api: ApiServer) -> Iterator[str]:
    name = objects.unique("node")
    objects.create_node(api, name)
    yield name
    api.request("DELETE", f"/api/v1/nodes/{name}")


def test_wh_05_a_node_that_is_too_old_for_native_sidecars(api: ApiServer, node: str) -> None:
    def said() -> Result:
        return asked(api, skew.cluster_checks())["every node can run a native sidecar"]

    assert said().outcome == "ok"
    objects.patch_status(api, f"/api/v1/nodes/{node}", {"nodeInfo": info("v1.28.4")})
    assert (said().outcome, said().detail) == ("error", f"1 can't: {node} has v1.28.4")
    objects.patch_status(api, f"/api/v1/nodes/{node}", {"nodeInfo": info("v1.34.4")})
    assert said().outcome == "ok"


def info(kubelet: str) -> Json:
    others = ("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion")
    more = ("machineID", "operatingSystem", "osImage", "systemUUID")
    return dict.fromkeys((*others, *more), "") | {"kubeletVersion": kubelet}


@pytest.mark.parametrize(
    ("off", "said"), [(HOUR, "s ahead"), (-HOUR, "s behind"), (timedelta(), None), (-HOUR / 60 / 2, None)]
)
def test_cl_07_a_nodes_clock_that_is_wrong_is_named(
    api: ApiServer, node: str, off: timedelta, said: str | None
) -> None:
    renewed = (datetime.now(UTC) + off).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lease = {"metadata": {"name": node}, "spec": {"holderIdentity": node, "renewTime": renewed}}
    api.request("POST", LEASES, lease)
    try:
        found = asked(api, skew.cluster_checks())["the nodes' clocks and the API server's agree"]
        assert found.outcome == ("ok" if said is None else "warning")
        if said is not None:
            assert node in found.detail
            assert said in found.detail
            assert 3500 < int(found.detail.split(" s ")[0].split()[-1]) < 3700
        objects.patch_status(
            api, f"/api/v1/nodes/{node}", {"conditions": [{"type": "Ready", "status": "Unknown"}]}
        )
        gone = asked(api, skew.cluster_checks())["the nodes' clocks and the API server's agree"]
        assert gone.outcome == "ok", "a node that isn't there has no clock"
    finally:
        api.request("DELETE", f"{LEASES}/{node}")


def test_cl_06_crds_of_another_version_are_named(api: ApiServer) -> None:
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))

    def said() -> Result:
        return asked(api, skew.install_checks("policyd"))["its CRDs are this version's"]

    assert said().outcome == "ok", said().detail
    field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/pathMode"
    change = json.dumps([{"op": "remove", "path": field}])
    api.kubectl("patch", "crd", "servers.policyd.dev", "--type=json", "-p", change)
    assert (said().outcome, said().detail) == ("warning", "not servers.policyd.dev")
    assert "install --crds" in said().advice
    api.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS / "policyd.dev_servers.yaml"))
    assert said().outcome == "ok"


def install(api: ApiServer, **settings: Json) -> str:
    namespace = objects.create_namespace(api, objects.unique("policyd"))
    stored = {"settings.json": json.dumps({"namespace": namespace, **settings})}
    api.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/configmaps",
        {"metadata": {"name": "policyd-install"}, "data": stored},
    )
    return namespace


def test_cl_06_pods_of_the_control_plane_of_another_version_are_named(api: ApiServer) -> None:
    namespace = install(api, images={"tag": "0.1.0"})
    labels = {"app.kubernetes.io/name": "policyd", "app.kubernetes.io/part-of": "policyd"}

    def pod(name: str, tag: str) -> None:
        spec = {"containers": [{"name": "c", "image": f"localhost/policyd:{tag}"}]}
        objects.create_pod(api, namespace, name=name, spec=spec, metadata={"labels": labels})

    def said() -> Result:
        return asked(api, skew.install_checks(namespace))["its pods run what was installed"]

    pod("policyd-0", "0.1.0")
    assert said().outcome == "ok"
    pod("policyd-1", "0.0.9")
    assert said().detail == "policyd-1 is 0.0.9; installed is 0.1.0"
    assert said().outcome == "warning"


def certificate_checks(api: ApiServer, namespace: str, at: datetime | None = None) -> dict[str, Result]:
    return asked(api, certificates.category(namespace, at or datetime.now(UTC)).checks)


def test_an_issuer_that_no_root_signed_and_one_that_ends_are_named(api: ApiServer) -> None:
    namespace = install(api)
    made, another = (make_issuer(TrustDomain("cluster.local"), datetime.now(UTC)) for _ in range(2))
    assert made.material.certificate is not None

    def write(roots: str) -> dict[str, Result]:
        data = {"root.crt": roots}
        api.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "policyd-trust-roots", "namespace": namespace},
                "data": data,
            }
        )
        return certificate_checks(api, namespace)

    secret = {"tls.crt": made.material.certificate, "tls.key": made.material.key or ""}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in secret.items()}
    body = {"metadata": {"name": "policyd-issuer"}, "type": "kubernetes.io/tls", "data": encoded}
    api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body)
    signed = "the issuer is signed by one of the roots"
    found = write(another.material.roots)
    assert found[signed].outcome == "error"
    assert "identity refuses to start" in found[signed].advice
    assert write(another.material.roots + made.material.roots)[signed].outcome == "ok"
    assert write("junk")["the roots are valid for 60 days"].outcome == "error"
    write(made.material.roots)
    later = certificate_checks(api, namespace, datetime.now(UTC) + timedelta(days=3660))
    assert later["the roots are valid for 60 days"].detail.startswith("ended on")
    early = certificate_checks(api, namespace, datetime.now(UTC) - timedelta(days=1))
    assert early["the issuer is valid for 60 days"].detail.startswith("valid from")


@pytest.mark.parametrize(
    ("version", "outcome"), [("v1.34.0", "ok"), ("v1.20.7", "warning"), ("what", "warning")]
)
def test_cl_06_kubectl_of_another_time_is_named(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, outcome: str
) -> None:
    program = tmp_path / "kubectl"
    told = json.dumps({"clientVersion": {"gitVersion": version}})
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = asked(api, skew.cluster_checks())["kubectl fits the cluster"]
    assert found.outcome == outcome, found
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    none = asked(api, skew.cluster_checks())["kubectl fits the cluster"]
    assert (none.outcome, none.detail) == ("ok", "there is none on PATH")
