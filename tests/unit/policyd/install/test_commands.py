"""`policyctl install` and its kin, as far as they go without a cluster."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from identity.spiffe_id import TrustDomain
from policyd.checkup.check import OK, Category, Check, Reported, Result, error, run
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run as policyctl
from policyd.install.issuer import make_issuer
from tests.unit.policyd.install.worlds import of_kind

OFFLINE = "--ignore-cluster"


def installed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[dict[str, Any]], str]:
    assert policyctl(["install", OFFLINE, *words]) == ExitCode.DONE
    said = capsys.readouterr()
    return list(yaml.safe_load_all(said.out)), said.err


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert policyctl(["install", OFFLINE, *words]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_objects_are_on_stdout_and_advice_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    objects, advice = installed(capsys)
    assert {"Namespace", "Deployment", "MeshDefaults"} <= {each["kind"] for each in objects}
    assert "thrown away" in advice
    assert all(line.startswith("# ") for line in advice.splitlines())


def test_the_roots_key_goes_where_it_is_said_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "root.key"
    objects, advice = installed(capsys, "--root-key-out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    key = out.read_text()
    assert "PRIVATE KEY" in key
    assert key not in yaml.safe_dump(objects) + advice
    assert "File exists" in refused(capsys, "--root-key-out", str(out))
    assert out.read_text() == key


def test_settings_come_from_files_and_words_the_later_counts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("trustDomain: a.example\nimages: {tag: '7', pullPolicy: Always}\n")
    objects, _ = installed(capsys, "--values", str(values), "--set", "images.tag=v8", "--ha", "-n", "mesh")
    [namespace] = of_kind(objects, "Namespace")
    assert namespace["metadata"]["name"] == "mesh"
    values.write_text("namespace: other\n")
    [namespace] = of_kind(installed(capsys, "--values", str(values))[0], "Namespace")
    assert namespace["metadata"]["name"] == "other"
    for each in of_kind(objects, "Deployment"):
        [container] = each["spec"]["template"]["spec"]["containers"]
        assert container["image"].endswith(":v8")
        assert container["imagePullPolicy"] == "Always"
        assert each["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--set", "trustdomain=x"), "trustdomain"),
        (("--set", "novalue"), "expected key=value"),
        (("--set", "ha=maybe"), "ha: 'maybe'"),
        (("--values", "/nowhere.yaml"), "/nowhere.yaml: No such file"),
        (("--roots", "/nowhere.crt"), "--roots, --issuer-crt and --issuer-key together"),
        (("--set", "issuer.kind=existing"), "expected --roots FILE"),
        (("--set", "defaultAccess=all"), "defaultAccess"),
        (("-n", "kube-system"), "namespace of its own"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_printed(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(capsys, *words)


def test_values_that_are_no_settings_are_refused_with_their_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    for content, expected in (
        ("[1]", "keys and values"),
        ("a: [", "expected YAML"),
        ("x" * 70_000, "at most"),
    ):
        file.write_text(content)
        said = refused(capsys, "--values", str(file))
        assert str(file) in said
        assert expected in said


def test_given_material_is_installed_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = make_issuer(TrustDomain("cluster.local"), datetime.now(UTC)).material
    texts = {"roots": made.roots, "issuer-crt": made.certificate or "", "issuer-key": made.key or ""}
    words = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        words += [f"--{name}", str(tmp_path / name)]
    objects, _ = installed(capsys, *words)
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    assert maps["policyd-trust-roots"] == {"root.crt": made.roots}
    assert "expected spiffe://other.example" in refused(capsys, *words, "--set", "trustDomain=other.example")


def test_cl_01_without_a_cluster_it_is_said_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert policyctl(["install", "--kubeconfig", str(tmp_path / "none")]) == ExitCode.UNREACHABLE
    assert "--ignore-cluster" in capsys.readouterr().err


async def test_after_a_needed_check_that_failed_the_others_are_skipped() -> None:
    async def fails(_: object) -> Result:
        return error("no", "do")

    async def well(_: object) -> Result:
        return OK

    categories = [
        Category("a", (Check("one", well), Check("two", fails, needed=True), Check("three", well))),
        Category("b", (Check("four", well),)),
    ]
    found: list[Reported] = [each async for each in run(None, categories)]  # type: ignore[arg-type]
    assert [each.result.outcome for each in found] == ["ok", "error", "skipped", "skipped"]


def test_the_issuer_lives_a_year_and_its_root_longer() -> None:
    made = make_issuer(TrustDomain("cluster.local"), datetime.now(UTC))
    assert made.root_ends - made.issuer_ends > timedelta(days=365)
