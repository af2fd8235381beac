"""The chart gives what `policyctl install` gives: rendered by Helm itself, compared object by object."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.install import chart
from policyd.install.configs import stored
from policyd.install.issuer import IssuerMaterial
from policyd.install.objects import custom_resource_definitions, render
from tests.unit.policyd.install.worlds import VARIANTS, settings

ROOT = Path(__file__).parents[2]
HELM = ROOT / "build" / "tools" / "bin" / "helm"
PEM = IssuerMaterial("-----BEGIN\nroots\n", "-----BEGIN\ncertificate\n", "-----BEGIN\nkey\n")
KUBERNETES = "1.34.0"
WORLDS: dict[str, dict[str, Any]] = VARIANTS | {
    "claim of the cluster's class": {"audit": {"kind": "claim", "size": "5Gi"}},
    "cert-manager, of a namespace": {
        "ha": True,
        "issuer": {"kind": "cert-manager", "certManager": {"name": "company", "kind": "Issuer"}},
    },
    "all else": {
        "namespace": "123",
        "clusterNetworks": ["10.1.0.0/16", "fd00::/8"],
        "images": {"controlPlane": "reg.example:5000/a", "proxy": "b", "tag": "1", "pullPolicy": "Always"},
        "resources": {"injector": {"cpu": "2", "memory": "1Gi", "limit": "2Gi"}},
    },
}


@pytest.fixture(scope="session")
def helm() -> Path:
    if not HELM.exists():
        missing = "HELM NOT TRIED: it isn't built: `make helm` does that, with Go"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return HELM


def _values(given: dict[str, Any], material: IssuerMaterial = PEM) -> tuple[dict[str, Any], str]:
    values = stored(settings(**given))
    namespace = values.pop("namespace")
    values |= {"roots": material.roots, "createNamespace": True}
    if values["issuer"]["kind"] == "provided":
        values["issuer"] |= {"certificate": material.certificate, "key": material.key}
    return values, namespace


def _template(
    helm: Path, values: dict[str, Any], namespace: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    command: list[str | Path] = [helm, "template", "policyd", chart.FOLDER, "--namespace", namespace]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [*command, "--include-crds", "--kube-version", KUBERNETES, "--values", file],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def _by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


@pytest.mark.parametrize("given", WORLDS.values(), ids=WORLDS)
def test_helm_gives_the_objects_of_policyctl_install(
    helm: Path, tmp_path: Path, given: dict[str, Any]
) -> None:
    values, namespace = _values(given)
    done = _template(helm, values, namespace, tmp_path)
    assert done.returncode == 0, done.stderr
    found = _by_name([each for each in yaml.safe_load_all(done.stdout) if each])
    kept = values["issuer"]["kind"] == "provided"
    material = PEM if kept else IssuerMaterial(PEM.roots)
    wanted = _by_name([*custom_resource_definitions(), *render(settings(**given), material)])
    assert found.keys() == wanted.keys()
    for name, each in wanted.items():
        assert found[name] == each, name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"roots": ""}, "the roots to trust"),
        ({"ha": True, "audit": {"kind": "claim"}}, "can't share one volume"),
        ({"issuer": {"kind": "provided"}}, "certificate and key"),
        ({"issuer": {"kind": "cert-manager"}}, "certManager"),
        ({"issuer": {"kind": "existing", "certManager": {"name": "x"}}}, "certManager"),
        ({"trustDomain": 'a"b'}, "trustDomain"),
        ({"trustdomain": "a"}, "trustdomain"),
        ({"defaultAccess": "everything"}, "defaultAccess"),
        ({"clusterNetworks": []}, "clusterNetworks"),
    ],
)
def test_helm_refuses_what_policyctl_install_refuses(
    helm: Path, tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    values, namespace = _values({})
    done = _template(helm, values | change, namespace, tmp_path)
    assert done.returncode != 0
    assert expected in done.stderr


def test_a_namespace_of_the_clusters_own_is_refused(helm: Path, tmp_path: Path) -> None:
    done = _template(helm, _values({})[0], "kube-system", tmp_path)
    assert "a namespace of its own" in done.stderr


def test_without_create_namespace_there_is_none(helm: Path, tmp_path: Path) -> None:
    values, namespace = _values({})
    done = _template(helm, values | {"createNamespace": False}, namespace, tmp_path)
    assert "kind: Namespace\n" not in done.stdout
    assert "kind: Deployment\n" in done.stdout


def test_the_chart_is_fresh() -> None:
    assert chart.FILES.stale() == []


def test_helm_lint_has_nothing_to_say(helm: Path, tmp_path: Path) -> None:
    values, _ = _values({})
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command: list[str | Path] = [
        helm,
        "lint",
        chart.FOLDER,
        "--values",
        file,
        "--namespace",
        "policyd",
        "--kube-version",
        KUBERNETES,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "ERROR" not in done.stdout
