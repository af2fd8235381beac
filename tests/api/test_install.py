"""Install, upgrade and uninstall with kubectl against a real API server, and what `check` says of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from identity.cluster.cluster_bundle import NAME as CLUSTER_BUNDLE
from identity.cluster.cluster_bundle import SIGNER
from kubeapi.client import Client
from kubeapi.errors import ApiError
from kubeapi.path import ResourcePath
from policyd.checkup import preflight
from policyd.checkup.check import Category, run
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run as policyctl
from policyd.install.names import COMPONENTS
from policyd.model.names import TRUST_BUNDLE
from tests.api import objects
from tests.api.inventory import everything
from tests.api.rig import KUBECTL_SECONDS, ApiServer
from tests.cluster import binaries

NAMESPACE = "policyd"
GONE_SECONDS = 60.0
POLL_SECONDS = 0.1


@pytest.fixture
def empty() -> Iterator[ApiServer]:
    """An API server of the test's own: what is compared is all that is there."""
    if not binaries.is_built("api"):
        missing = f"INSTALL NOT TRIED: {binaries.folder()} isn't built: `make kubernetes` does that, with Go"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="policyd-install-"))
    server = ApiServer(folder)
    try:
        server.start()
        objects.create_node(server)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Shell:
    """Somebody at a terminal: policyctl, and kubectl behind a pipe."""

    def __init__(self, api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.api = api
        self._capsys = capsys

    def policyctl(self, *words: str, expect: ExitCode = ExitCode.DONE) -> str:
        """Run it; returns what it printed on stdout, or on stderr where it refuses."""
        code = policyctl([*words, "--kubeconfig", str(self.api.kubeconfig)])
        said = self._capsys.readouterr()
        assert code == expect, said
        return said.out if said.out else said.err

    def kubectl(self, *words: str, stdin: str) -> str:
        """Run it; returns what it said on stderr."""
        config = self.api.kubeconfig
        command: list[str | Path] = [self.api.programs / "kubectl", "--kubeconfig", config, *words, "-f", "-"]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=2 * KUBECTL_SECONDS,
            env=os.environ | {"HOME": str(self.api.folder)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def install(self, *words: str) -> str:
        """Install, CRDs first; returns what kubectl said on stderr."""
        said = self.kubectl("apply", "--server-side", stdin=self.policyctl("install", "--crds"))
        self.api.kubectl(
            "wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=policyd"
        )
        return said + self.kubectl("apply", stdin=self.policyctl("install", *words))


@pytest.fixture
def shell(empty: ApiServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(empty, capsys)


def settled(api: ApiServer) -> set[tuple[str, str, str]]:
    """Return all objects once an API server that has just started makes no more of its own."""
    deadline = time.monotonic() + GONE_SECONDS
    seen: list[set[tuple[str, str, str]]] = []
    while len(seen) < 3 or not seen[-1] == seen[-2] == seen[-3]:
        assert time.monotonic() < deadline, "the API server goes on making objects"
        seen.append(everything(api))
    return seen[-1]


def end_namespace(api: ApiServer, name: str) -> None:
    """Do what the controller of namespaces does, which doesn't run here: let it go once it is empty."""
    namespace = api.request("GET", f"/api/v1/namespaces/{name}")
    assert namespace["status"]["phase"] == "Terminating"
    namespace["spec"]["finalizers"] = []
    api.request("PUT", f"/api/v1/namespaces/{name}/finalize", namespace)


def outcomes(text: str) -> dict[str, str]:
    return {each["check"]: each["result"] for each in json.loads(text)["checks"]}


@pytest.mark.promise("P-17")
def test_p_17_install_and_uninstall_leave_nothing(shell: Shell) -> None:
    api = shell.api
    before = settled(api)
    assert "Warning" not in shell.install("--ha")
    installed = everything(api)
    for component in COMPONENTS:
        assert ("deployments", NAMESPACE, component) in installed
    for namespace in ("default", NAMESPACE):  # what identity would write
        bundle = {"metadata": {"name": TRUST_BUNDLE}, "data": {"ca.pem": ""}}
        api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", bundle)

    shell.kubectl("delete", "--wait=false", stdin=shell.policyctl("uninstall"))

    deadline = time.monotonic() + GONE_SECONDS
    while (left := everything(api) - before) != {("namespaces", "", NAMESPACE)}:
        assert time.monotonic() < deadline, left
    end_namespace(api, NAMESPACE)
    assert settled(api) == before


def test_what_is_installed_is_upgraded_and_never_installed_twice(shell: Shell) -> None:
    api = shell.api
    shell.install()
    assert "upgrade" in shell.policyctl("install", expect=ExitCode.NO)
    secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/policyd-issuer"
    issuer = api.request("GET", secret)["data"]
    assert "Warning" not in shell.kubectl("apply", stdin=shell.policyctl("upgrade", "--set", "ha=true"))
    assert api.request("GET", secret)["data"] == issuer
    deployment = api.request("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/identity")
    assert deployment["spec"]["replicas"] == 2
    rendered = [
        each for each in yaml.safe_load_all(shell.policyctl("upgrade")) if each["kind"] == "Deployment"
    ]
    assert {each["spec"]["replicas"] for each in rendered} == {2}, "the setting was stored"
    assert "trust_domain can't" in shell.policyctl(
        "upgrade", "--set", "trustDomain=other.example", expect=ExitCode.USAGE
    )


def test_what_an_install_injects_is_injected_by_command(shell: Shell, tmp_path: Path) -> None:
    manifest = tmp_path / "deploy.yaml"
    pod = {"containers": [{"name": "app", "image": "a"}]}
    written = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}
    manifest.write_text(json.dumps(written))
    words = ("inject", "--installed", "-f", str(manifest))
    assert "isn't installed" in shell.policyctl(*words, expect=ExitCode.NOT_FOUND)
    shell.install("--set", "images.proxy=example.test/proxy", "--set", "images.pullPolicy=Never")
    sidecar = yaml.safe_load(shell.policyctl(*words))["spec"]["initContainers"][-1]
    assert sidecar["image"].startswith("example.test/proxy:")
    assert sidecar["imagePullPolicy"] == "Never"
    assert '"address":"identity.policyd.svc:9443"' in json.dumps(sidecar["env"]).replace("\\", "")


def test_what_helm_installed_is_left_to_helm(shell: Shell) -> None:
    shell.install()
    managed = "app.kubernetes.io/managed-by=Helm"
    shell.api.kubectl("label", "configmap", "policyd-install", "-n", NAMESPACE, managed)
    for command in ("upgrade", "uninstall"):
        assert f"helm {command}" in shell.policyctl(command, expect=ExitCode.NO)


def test_an_install_with_meshed_pods_is_left_in_place_unless_forced(shell: Shell) -> None:
    shell.install()
    spec = {"containers": [{"name": "app", "image": "a"}, {"name": "policyd-proxy", "image": "a"}]}
    namespace = objects.create_namespace(shell.api)
    pod = objects.create_pod(shell.api, namespace, spec=spec)
    assert f"{namespace}/{pod.name}" in shell.policyctl("uninstall", expect=ExitCode.NO)
    assert "kind: Namespace" in shell.policyctl("uninstall", "--force")
    kept = shell.policyctl("uninstall", "--force", "--keep-policies")
    assert "CustomResourceDefinition" not in kept
    assert "MeshDefaults" not in kept
    # It takes Kubernetes seconds to get to the pods of a namespace that ends, as that of canaries does.
    shell.api.request("DELETE", f"/api/v1/namespaces/{namespace}")
    assert "kind: Namespace" in shell.policyctl("uninstall")


def test_accounts_may_do_what_they_need_and_nothing_of_others(shell: Shell) -> None:
    shell.install()

    def may(component: str, *words: str) -> bool:
        account = f"--as=system:serviceaccount:{NAMESPACE}:{component}"
        command: list[str | Path] = [
            shell.api.programs / "kubectl",
            "--kubeconfig",
            shell.api.kubeconfig,
            "auth",
            "can-i",
            *words,
        ]
        done = subprocess.run(
            [*command, account], capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False
        )
        return done.stdout.strip() == "yes"

    assert may("identity", "create", "tokenreviews.authentication.k8s.io")
    assert may("identity", "watch", "pods", "-A")
    assert may("identity", "patch", "configmaps/policyd-trust-bundle", "-n", "default")
    assert may("policyd", "watch", "servers.policyd.dev", "-A")
    assert may("injector", "patch", "secrets/policyd-injector-tls", "-n", NAMESPACE)
    assert not may("injector", "get", "secrets/policyd-issuer", "-n", NAMESPACE)
    for component in COMPONENTS:
        assert not may(component, "list", "secrets", "-A")
        assert not may(component, "create", "pods", "-n", NAMESPACE)
        assert not may(component, "patch", "configmaps/kube-root-ca.crt", "-n", "default")


def test_identity_may_create_its_own_bundle_by_applying_it_and_nothing_else(shell: Shell) -> None:
    api = shell.api
    shell.install()
    own = api.write_kubeconfig("identity", objects.account_token(api, NAMESPACE, "identity"))
    asked = Cluster(own).ask
    maps = ResourcePath("", "v1", "configmaps", "default")

    def applied(path: ResourcePath, name: str, body: dict[str, Any]) -> bool:
        async def apply(client: Client) -> bool:
            try:
                await client.apply(path, name, body | {"metadata": {"name": name}})
            except ApiError as error:
                if error.not_allowed:
                    return False
                raise
            return True

        return asked(apply)

    bundle = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.pem": "x"}}
    assert applied(maps, TRUST_BUNDLE, bundle)
    assert applied(maps, TRUST_BUNDLE, bundle | {"data": {"ca.pem": "y"}})
    assert not applied(maps, "kube-root-ca.crt", bundle)
    assert not applied(maps, "another", bundle)

    async def post(client: Client) -> None:
        await client.create(maps, bundle | {"metadata": {"name": TRUST_BUNDLE}})

    with pytest.raises(ApiError) as refused:
        asked(post)
    assert refused.value.not_allowed
    bundles = ResourcePath("certificates.k8s.io", "v1beta1", "clustertrustbundles")
    spec = {"signerName": SIGNER, "trustBundle": Path(api.ca).read_text()}
    cluster = {"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "spec": spec}
    assert applied(bundles, CLUSTER_BUNDLE, cluster)
    assert not applied(bundles, "policyd.dev:identity:another", cluster)


def test_check_before_an_install_and_after_it(shell: Shell) -> None:
    fresh = outcomes(shell.policyctl("check", "--pre", "-o", "json"))
    assert fresh.pop("Gateway API is there") == "warning"
    assert fresh.pop("kubectl fits the cluster") in {"ok", "warning"}, "this machine's own"
    assert set(fresh.values()) == {"ok"}, fresh
    assert "policyctl install" in shell.policyctl("check", "--control-plane", expect=ExitCode.NO)
    shell.install()
    again = outcomes(shell.policyctl("check", "--pre", "-o", "json", expect=ExitCode.NO))
    assert again[f"namespace {NAMESPACE} is free"] == "error"
    objects.create_namespace(shell.api, labels={"policyd.dev/inject": "enabled"})
    after = outcomes(shell.policyctl("check", "--control-plane", "-o", "json", expect=ExitCode.NO))
    assert after["its CRDs are served"] == "ok"
    assert after["the issuer is valid for 60 days"] == "ok"
    assert after["identity is available"] == "error", "no kubelet runs here"
    assert after["the API server knows the webhooks' CA"] == "error", "nor an injector"
    assert after["the API server can ask for denials"] == "error", "nor policyd"
    assert after["every pod of an enrolled namespace has its proxy"] == "ok"
    both = json.loads(shell.policyctl("check", "-o", "json", expect=ExitCode.NO))
    told = {each["check"]: each["result"] for each in both["checks"]}
    assert told.items() >= after.items()
    assert {told[name] for name in told.keys() - after.keys()} == {"skipped"}, "no canaries where it is ill"
    alone = json.loads(shell.policyctl("check", "--no-canaries", "-o", "json", expect=ExitCode.NO))
    assert {each["check"] for each in alone["checks"]} == after.keys()
    assert "findings" in both


def test_cl_01_who_may_not_install_is_told_so_before(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    token = objects.account_token(
        shell.api, "default", objects.create_account(shell.api, "default", "dev") and "dev"
    )
    own = shell.api.write_kubeconfig("dev", token)
    code = policyctl(["check", "--pre", "--kubeconfig", str(own), "-o", "json"])
    told = outcomes(capsys.readouterr().out)
    assert code == ExitCode.NO
    assert told["you may create what install creates"] == "error"
    assert told["the API server answers"] == "ok"


@pytest.mark.parametrize(("hours", "said"), [(1, "ahead"), (-1, "behind")])
def test_cl_07_a_clock_that_is_wrong_is_named(empty: ApiServer, hours: int, said: str) -> None:
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    async def ask(client: Any) -> list[Any]:
        category: Category = preflight.api_server(clock)
        return [each async for each in run(client, [category])]

    told = Cluster(empty.kubeconfig).ask(ask)
    result = next(each.result for each in told if "clock" in each.text)
    assert result.outcome == "error"
    assert said in result.detail
    assert 3590 <= int(result.detail.split()[3]) <= 3610
