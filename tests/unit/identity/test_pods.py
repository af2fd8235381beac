from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from identity import pods
from identity.pods import FolderPods
from identity.refusal import Code, Refused
from identity.tokens import Caller

WEB = Caller("emojivoto", "web", "sa-uid", "web-0", "pod-uid", "")


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "RESCAN_SECONDS", 0.0)


def pod(**meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "emojivoto", "uid": "pod-uid", **meta},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running"},
    }


def account(**meta: Any) -> dict[str, Any]:
    return {"kind": "ServiceAccount", "metadata": {"name": "web", "namespace": "emojivoto", **meta}}


def write(folder: Path, name: str, content: object) -> None:
    """Replace a file at once, as a kubelet would."""
    beside = folder / f".{name}"
    beside.write_text(content if isinstance(content, str) else json.dumps(content))
    os.replace(beside, folder / name)


async def is_there(presence: FolderPods, caller: Caller = WEB) -> bool:
    try:
        await presence.require(caller)
    except Refused as refused:
        return refused.code is not Code.POD_GONE
    return True


async def test_id_03_a_pod_counts_from_when_its_file_is_there_until_it_is_not(tmp_path: Path) -> None:
    presence = FolderPods(tmp_path)
    assert not await is_there(presence)
    write(tmp_path, "web.json", pod())
    assert await is_there(presence)
    write(tmp_path, "web.json", pod(deletionTimestamp="2026-11-21T12:00:00Z"))
    assert not await is_there(presence)
    write(tmp_path, "web.json", pod())
    assert await is_there(presence)
    (tmp_path / "web.json").unlink()
    assert not await is_there(presence)


async def test_id_03_a_recreated_pod_is_another(tmp_path: Path) -> None:
    presence = FolderPods(tmp_path)
    write(tmp_path, "web.json", pod())
    assert await is_there(presence)
    write(tmp_path, "web.json", pod(uid="pod-uid-2"))
    assert not await is_there(presence)
    assert await is_there(presence, replace(WEB, pod_uid="pod-uid-2"))


@pytest.mark.parametrize(
    "change",
    [
        {"service_account": "admin"},
        {"pod_name": "web-1"},
        {"namespace": "other"},
        {"pod_uid": "unknown"},
    ],
)
async def test_id_03_a_token_that_says_otherwise_than_the_pod_is_refused(
    change: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, "web.json", pod())
    assert not await is_there(FolderPods(tmp_path), replace(WEB, **change))


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_an_ended_pod_is_gone(phase: str, tmp_path: Path) -> None:
    write(tmp_path, "web.json", {**pod(), "status": {"phase": phase}})
    assert not await is_there(FolderPods(tmp_path))


async def test_id_03_a_deleted_or_replaced_account_is_gone(tmp_path: Path) -> None:
    presence = FolderPods(tmp_path)
    write(tmp_path, "web.json", pod())
    write(
        tmp_path,
        "sa.yaml",
        "kind: ServiceAccount\nmetadata: {name: web, namespace: emojivoto, uid: sa-uid}\n",
    )
    assert await is_there(presence)
    write(tmp_path, "sa.yaml", json.dumps(account(uid="another")))
    assert not await is_there(presence)
    write(tmp_path, "sa.yaml", json.dumps(account(uid="sa-uid", deletionTimestamp="2026-11-21T12:00:00Z")))
    assert not await is_there(presence)
    (tmp_path / "sa.yaml").unlink()
    assert not await is_there(presence)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "kind: Pod\nmetadata: [",
        "\0",
        "a: &a [x]\nb: *a\n---\n" + json.dumps(pod()),
        json.dumps({**pod(), "metadata": {"name": 5}}),
        " " * (2 << 20) + json.dumps(pod()),
    ],
)
async def test_what_cannot_be_read_is_not_there(content: str, tmp_path: Path) -> None:
    write(tmp_path, "web.yaml", content)
    assert not await is_there(FolderPods(tmp_path))


async def test_yaml_lists_and_several_documents_are_read(tmp_path: Path) -> None:
    several = "kind: Node\nmetadata: {name: n}\n---\n" + json.dumps({"kind": "List", "items": [pod()]})
    write(tmp_path, "all.yaml", several)
    assert await is_there(FolderPods(tmp_path))


async def test_a_missing_folder_holds_nobody(tmp_path: Path) -> None:
    assert not await is_there(FolderPods(tmp_path / "gone"))
