"""An API server that has a certificate for its webhooks, and injectors that hear nobody else (WH-02)."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.api import objects
from tests.api.certificates import Authority
from tests.api.injector_process import LABEL, running, until
from tests.api.rig import ApiServer, RigError


@pytest.fixture(scope="module")
def certified(api: ApiServer) -> Iterator[tuple[ApiServer, Path]]:
    """Another API server, which shows a certificate to webhooks; and the authority of that."""
    del api  # skips where there are no programs
    folder = Path(tempfile.mkdtemp(prefix="policyd-api-"))
    callers = Authority(folder, "webhook-callers")
    certificate, key = callers.issue("kube-apiserver")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    kubeconfig = folder / "webhooks.kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]})
    )
    inner = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": str(kubeconfig),
    }
    plugins = [
        {"name": f"{kind}AdmissionWebhook", "configuration": inner} for kind in ("Mutating", "Validating")
    ]
    configuration = folder / "admission.yaml"
    content = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": plugins,
    }
    configuration.write_text(yaml.safe_dump(content))
    server = ApiServer(folder, [f"--admission-control-config-file={configuration}"])
    try:
        server.start()
        objects.create_node(server)
        yield server, callers.certificate
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def pod(server: ApiServer, namespace: str) -> bool:
    body = {"metadata": {"generateName": "app-"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    try:
        made = server.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    except RigError:
        return False
    return "initContainers" in made["spec"]


def test_wh_02_the_api_server_is_heard_and_nobody_else(certified: tuple[ApiServer, Path]) -> None:
    server, callers = certified
    with running(server, {"clientCaFile": str(callers)}) as injector:
        namespace = objects.create_namespace(server, labels={LABEL: "enabled"})
        until(lambda: pod(server, namespace))
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE
        with httpx.Client(verify=anybody) as client, pytest.raises(httpx.TransportError):
            client.post(f"https://127.0.0.1:{injector.port}/inject", content=b"{}")


def test_wh_02_a_certificate_of_somebody_else_is_none(certified: tuple[ApiServer, Path]) -> None:
    server, _ = certified
    other = Authority(server.folder, "others")
    with running(server, {"clientCaFile": str(other.certificate)}) as injector:
        namespace = objects.create_namespace(server, labels={LABEL: "enabled"})
        assert not pod(server, namespace)
        assert not any(each.get("event") == "admitted" for each in injector.events)
