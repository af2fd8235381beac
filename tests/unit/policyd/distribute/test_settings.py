"""The settings file: strict, and every mistake said in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyd.distribute.settings import Settings
from servicekit.config import ConfigError, load_config

GOOD = {
    "trustDomain": "cluster.local",
    "namespace": "policyd",
    "listen": "127.0.0.1:9444",
    "folders": ["manifests"],
    "identity": {"address": "127.0.0.1:9443"},
    "tokenFile": "token",
    "rootsFile": "roots.pem",
    "stateDir": "state",
}


def _read(folder: Path, **changes: object) -> Settings:
    file = folder / "policyd.json"
    file.write_text(json.dumps(GOOD | changes))
    return load_config(file, Settings)


def test_the_pods_folder_comes_first(tmp_path: Path) -> None:
    assert _read(tmp_path).sources == (Path("manifests"),)
    assert _read(tmp_path, podsFolder="pods").sources == (Path("pods"), Path("manifests"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unknown", 1),
        ("trustDomain", "Not A Domain"),
        ("listen", "nowhere"),
        ("folders", []),
        ("folders", "manifests"),
        ("cluster", {"token": "x"}),
        ("identity", {"address": "x", "more": 1}),
        ("extraClusterNetworks", ["127.0.0.1/8"]),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"policyd\.json: {key}"):
        _read(tmp_path, **{key: value})


def test_where_denials_are_kept_unless_it_is_said(tmp_path: Path) -> None:
    found = _read(tmp_path)
    assert found.audit_folder == found.state_dir / "audit"
    said = _read(tmp_path, audit={"folder": "/a", "age": "48h", "sizeBytes": 2**25})
    assert (said.audit_folder, said.audit.age.days, said.audit.size_bytes) == (Path("/a"), 2, 2**25)


def test_a_cluster_takes_the_place_of_folders(tmp_path: Path) -> None:
    found = _read(tmp_path, folders=[], cluster={"kubeconfig": "config", "context": "c"})
    assert found.sources == ()
    assert found.cluster is not None
    assert found.cluster.kubeconfig == Path("config")
    assert _read(tmp_path, cluster={}).cluster is not None


@pytest.mark.parametrize("audit", [{"sizeBytes": 1000}, {"age": "soon"}, {"path": "/a"}])
def test_audit_settings_that_make_no_sense(tmp_path: Path, audit: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"audit\."):
        _read(tmp_path, audit=audit)
