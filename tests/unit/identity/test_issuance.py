from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from identity.audit import Journal
from identity.authority import Authority
from identity.issuance import Asked, Checks, Issuance
from identity.limits import Limits, Rate
from identity.pods import FolderPods, Unchecked
from identity.refusal import Code, Refused
from identity.spiffe_id import SpiffeId
from identity.tokens import JwksTokenVerifier
from servicekit.leaf import Leaf, read_leaf
from tests.unit.identity.conftest import WEB
from tests.unit.identity.hostile_csr import request

Mint = Callable[..., str]


@pytest.fixture
def asked(web_token: Mint, key: ec.EllipticCurvePrivateKey) -> Asked:
    return Asked(request(key), web_token(), None, "127.0.0.1")


def journal_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().splitlines()]


async def refusal(issuance: Issuance, asked: Asked) -> Code:
    with pytest.raises(Refused) as refused:
        await issuance.certify(asked)
    return refused.value.code


async def test_a_certificate_is_the_tokens_and_written_down(
    issuance: Issuance, asked: Asked, tmp_path: Path
) -> None:
    issued = await issuance.certify(asked)
    leaf = read_leaf(issued.chain[0])
    assert (leaf.identity, leaf.pod_uid) == (WEB, "pod-uid-1")
    [line] = journal_lines(tmp_path)
    assert line["event"] == "issued"
    assert line["kind"] == "first"
    assert line["identity"] == str(WEB)
    assert line["podUID"] == "pod-uid-1"
    assert line["certificateSHA256"] == leaf.sha256
    assert line["serial"] == f"{issued.plan.serial:x}"
    assert asked.token not in json.dumps(line)


async def test_id_01_a_refused_name_is_written_down(
    issuance: Issuance, asked: Asked, key: ec.EllipticCurvePrivateKey, journal: Journal, tmp_path: Path
) -> None:
    assert await refusal(issuance, replace(asked, csr=request(key, subject="admin"))) is Code.NAME_REFUSED
    await journal.close()
    [line] = journal_lines(tmp_path)
    assert (line["event"], line["code"]) == ("refused", "NAME_REFUSED")
    assert line["serviceAccount"] == "web"


async def test_id_03_a_refused_token_is_written_down_without_what_it_claims(
    issuance: Issuance, asked: Asked, journal: Journal, tmp_path: Path
) -> None:
    assert await refusal(issuance, replace(asked, token=asked.token[:-20] + "A" * 20)) is Code.TOKEN_INVALID
    await journal.close()
    [line] = journal_lines(tmp_path)
    assert line["code"] == "TOKEN_INVALID"
    assert "emojivoto" not in json.dumps(line)


async def test_id_05_a_pod_is_throttled_and_another_is_not(
    issuance: Issuance, asked: Asked, web_token: Mint
) -> None:
    for _ in range(5):
        await issuance.certify(asked)
    assert await refusal(issuance, asked) is Code.RATE_LIMITED
    assert await issuance.certify(replace(asked, token=web_token("pod-uid-2")))


async def test_id_06_a_replayed_token_gives_the_same_identity_only(issuance: Issuance, asked: Asked) -> None:
    """A bearer token's limit: whoever has it gets that identity, with that pod's uid, and nothing else."""
    elsewhere = replace(asked, csr=request(ec.generate_private_key(ec.SECP256R1())), address="10.9.9.9")
    leaf = read_leaf((await issuance.certify(elsewhere)).chain[0])
    assert (leaf.identity, leaf.pod_uid) == (WEB, "pod-uid-1")


def shown(identity: SpiffeId = WEB, pod_uid: str | None = "pod-uid-1", left: float = 60) -> Leaf:
    now = datetime.now(UTC)
    return Leaf(identity, pod_uid, now - timedelta(hours=1), now + timedelta(seconds=left), "00" * 32)


async def test_a_renewal_shows_the_same_identity_and_pod(
    issuance: Issuance, asked: Asked, tmp_path: Path
) -> None:
    await issuance.certify(replace(asked, shown=shown()))
    assert journal_lines(tmp_path)[0]["kind"] == "renewal"


OTHERS = {
    "another identity": shown(SpiffeId.parse("spiffe://cluster.local/ns/emojivoto/sa/admin")),
    "another trust domain": shown(SpiffeId.parse("spiffe://other/ns/emojivoto/sa/web")),
    "another pod": shown(pod_uid="pod-uid-2"),
    "no pod": shown(pod_uid=None),
    "expired since": shown(left=-1),
}


@pytest.mark.parametrize("what", OTHERS)
async def test_id_06_a_token_beside_anothers_certificate_is_refused(
    what: str, issuance: Issuance, asked: Asked
) -> None:
    assert await refusal(issuance, replace(asked, shown=OTHERS[what])) is Code.PEER_MISMATCH


async def test_what_is_revoked_is_refused_at_once(
    authority: Authority, journal: Journal, verifier: JwksTokenVerifier, asked: Asked
) -> None:
    cut: set[str] = set()
    checks = Checks(verifier, Unchecked(), Limits(Rate(1, 9)), lambda identity, *_: str(identity) in cut)
    issuance = Issuance(authority, journal, checks)
    await issuance.certify(asked)
    cut.add(str(WEB))
    assert await refusal(issuance, asked) is Code.REVOKED


async def test_a_pod_that_is_not_there_gets_nothing(
    authority: Authority, journal: Journal, verifier: JwksTokenVerifier, asked: Asked, tmp_path: Path
) -> None:
    checks = Checks(verifier, FolderPods(tmp_path), Limits())
    assert await refusal(Issuance(authority, journal, checks), asked) is Code.POD_GONE


async def test_id_08_a_clock_behind_the_journal_stops_issuance(
    authority: Authority, verifier: JwksTokenVerifier, asked: Asked, tmp_path: Path
) -> None:
    now = int(time.time() * 1000)
    for ahead, stopped in ((4 * 60_000, False), (60 * 60_000, True), (25 * 60 * 60_000, True)):
        path = tmp_path / f"journal-{ahead}"
        path.touch(0o600)
        path.write_text(json.dumps({"event": "issued", "at": now + ahead}) + "\n")
        journal = Journal(path)
        issuance = Issuance(authority, journal, Checks(verifier, Unchecked(), Limits()))
        if stopped:
            assert await refusal(issuance, asked) is Code.CLOCK_REGRESSION
        else:
            await issuance.certify(asked)
        await journal.close()


async def test_id_10_without_a_journal_there_is_no_certificate(
    issuance: Issuance, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        assert await refusal(issuance, asked) is Code.AUDIT_UNAVAILABLE
    assert await issuance.certify(asked)
