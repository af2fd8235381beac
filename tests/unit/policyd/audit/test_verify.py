"""`policyctl audit verify`: what it finds, and what it doesn't mistake for a change."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from policyd import engine
from policyd.audit import heads, keeping, retention
from policyd.audit.record import Writer
from policyd.audit.retention import Bounds
from policyd.audit.store import Content, Filter
from policyd.audit.verify import Result, verify
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.errors import ChainRefused

from .conftest import NOW, WAIT_SECONDS, Chain, Opener, RealSigner, deliver, denial, until

RECORDS = 6


def checked(folder: Path, signer: RealSigner | None = None) -> Result:
    roots: tuple[bytes, ...] = ()
    if signer is not None:
        pem = x509.load_pem_x509_certificates(signer.roots.read_bytes())
        roots = tuple(each.public_bytes(Encoding.DER) for each in pem)
    return verify(folder, engine.version, roots)


@pytest.fixture
def kept(tmp_path: Path, opened: Opener, chain: Chain) -> Path:
    """A store with two chains and some bytes, closed: its heads are signed."""
    store = opened()
    deliver(store, chain, *(denial(number) for number in range(RECORDS)))
    deliver(store, Chain(chain.writer), denial(100), {"event": "lost", "count": 3, "reason": "spool_full"})
    facts = b"facts"
    store.keep([Content("facts", f"sha256:{hashlib.sha256(facts).hexdigest()}", facts)])
    store.close()
    return tmp_path / "audit"


def edit(folder: Path, *statements: str, **values: Any) -> None:
    with closing(sqlite3.connect(folder / "audit.sqlite")) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            connection.execute(statement, values)


def test_an_untouched_store_is_well(kept: Path, signer: RealSigner) -> None:
    result = checked(kept, signer)
    assert (result.tampered, result.chains, result.records, result.lost) == ([], 2, 8, 3)
    assert [note.text for note in result.notes] == ["3 denials that shop/cart-0 says were lost"]


@pytest.mark.parametrize(
    ("statements", "sequence"),
    [
        (["UPDATE records SET json = replace(json, '/a', '/b') WHERE place = 3"], 3),
        (["UPDATE records SET json = CAST(replace(json, '/a', '/b') AS BLOB) WHERE place = 3"], 3),
        (["UPDATE records SET reason = 'allowed' WHERE place = 4"], 4),
        (["UPDATE records SET time_millis = 1 WHERE place = 2"], 2),
        (["DELETE FROM records WHERE place = 3"], 3),
        (["DELETE FROM records WHERE place = 1"], 1),
        (
            [
                "UPDATE records SET sequence = -sequence WHERE place IN (3, 4)",
                "UPDATE records SET sequence = 7 + sequence WHERE place IN (3, 4)",
            ],
            3,
        ),
        (
            [
                "UPDATE records SET sequence = -sequence - 1 WHERE place BETWEEN 3 AND 6",
                "UPDATE records SET sequence = -sequence WHERE sequence < 0",
                "INSERT INTO records (chain, sequence, sha256, json, event) "
                "VALUES (1, 3, x'00', x'00', 'denial')",
            ],
            3,
        ),
        (["DELETE FROM records WHERE place = 6"], 6),
        (
            [
                "DELETE FROM records WHERE place = 6",
                "UPDATE chains SET head_sequence = 5, head_sha256 = "
                "(SELECT sha256 FROM records WHERE place = 5) WHERE number = 1",
            ],
            6,
        ),
        (
            [
                "UPDATE chains SET removed_sequence = 2, removed_sha256 = (SELECT sha256 FROM records "
                "WHERE place = 2) WHERE number = 1",
                "DELETE FROM records WHERE place <= 2",
            ],
            1,
        ),
        (["DELETE FROM records WHERE chain = 1", "DELETE FROM chains WHERE number = 1"], 1),
        (["UPDATE chains SET namespace = 'bank' WHERE number = 1"], 1),
        (["UPDATE records SET chain = 9 WHERE place = 7"], 1),
    ],
)
def test_au_01_what_somebody_changed_is_named(kept: Path, statements: list[str], sequence: int) -> None:
    edit(kept, *statements)
    result = checked(kept)
    assert result.tampered
    assert sequence in {finding.sequence for finding in result.tampered}


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "audit.sqlite").unlink(),
        lambda folder: (folder / "heads.jsonl").unlink(),
        lambda folder: (folder / "heads.jsonl").write_bytes(b""),
        lambda folder: (folder / "audit.sqlite").write_bytes(b"no database"),
        lambda folder: edit(folder, "DROP TABLE records"),
        lambda folder: edit(folder, "UPDATE contents SET content = x'00'"),
        lambda folder: edit(folder, "UPDATE chains SET chain = 'text' WHERE number = 1"),
        lambda folder: edit(folder, "UPDATE meta SET value = 'another' WHERE name = 'store'"),
    ],
)
def test_au_01_files_that_are_gone_or_another(kept: Path, harm: Callable[[Path], Any]) -> None:
    harm(kept)
    assert checked(kept).tampered


def test_au_01_a_first_line_that_looks_torn_but_is_named_by_the_next(
    kept: Path, opened: Opener, signer: RealSigner
) -> None:
    store = opened()
    store.note(b'{"event":"table"}')
    store.close()  # a second run: its first line says the chain of certificates anew
    assert not checked(kept, signer).tampered
    file = kept / "heads.jsonl"
    file.write_bytes(file.read_bytes().replace(b'{"payload"', b'{"payload', 1))
    assert checked(kept, signer).tampered


def test_au_01_any_flipped_bit_of_a_certificate_is_a_finding(kept: Path, signer: RealSigner) -> None:
    file = kept / "heads.jsonl"
    first, *rest = file.read_bytes().splitlines()
    line = json.loads(first)
    leaf = base64.b64decode(line["chain"][0])
    for at in range(len(leaf)):
        changed = leaf[:at] + bytes([leaf[at] ^ (1 << at % 8)]) + leaf[at + 1 :]
        encoded = base64.b64encode(changed).decode()
        text = json.dumps(line | {"chain": [encoded, *line["chain"][1:]]}, ensure_ascii=False)
        file.write_bytes(b"\n".join([text.encode(), *rest, b""]))
        assert checked(kept, signer).tampered, at


def test_au_01_a_database_that_was_rolled_back(
    kept: Path, opened: Opener, chain: Chain, tmp_path: Path
) -> None:
    shutil.copy(kept / "audit.sqlite", tmp_path / "before")
    later = opened()
    deliver(later, chain, denial(50), denial(51))
    later.close()
    assert checked(kept).tampered == []
    shutil.copy(tmp_path / "before", kept / "audit.sqlite")
    assert RECORDS + 1 in {finding.sequence for finding in checked(kept).tampered}
    back = opened()
    with pytest.raises(ChainRefused, match="ROLLED_BACK"):
        back.greet(chain.writer, chain.name, chain.head()).result(WAIT_SECONDS)


def test_au_01_everything_rolled_back_is_told_by_who_comes_back(
    kept: Path, opened: Opener, chain: Chain, tmp_path: Path
) -> None:
    """Database and heads alike: nobody on this machine knows, but the writer does."""
    shutil.copytree(kept, tmp_path / "before")
    later = opened()
    deliver(later, chain, denial(50), denial(51))
    later.close()
    shutil.rmtree(kept)
    shutil.copytree(tmp_path / "before", kept)
    assert checked(kept).tampered == []
    back = opened()
    with pytest.raises(ChainRefused, match="ROLLED_BACK"):
        back.greet(chain.writer, chain.name, chain.head()).result(WAIT_SECONDS)
    back.close()
    result = checked(kept)
    assert [(finding.chain, finding.sequence) for finding in result.tampered] == [
        (chain.name.hex(), RECORDS + 1)
    ]
    assert "rolled back" in result.tampered[0].text


def test_heads_of_somebody_else(kept: Path, signer: RealSigner, tmp_path: Path) -> None:
    """Who can write the folder can sign with a key of their own; the roots tell."""
    other = RealSigner(tmp_path / "other-root")
    lines = (kept / "heads.jsonl").read_bytes().splitlines()
    content = json.loads(json.loads(lines[-1])["payload"])
    (kept / "heads.jsonl").unlink()
    last = heads.HeadsFile(kept / "heads.jsonl", other).write(content)
    edit(kept, "UPDATE meta SET value = :last WHERE name = 'heads'", last=last)
    unknowing = checked(kept)
    assert unknowing.tampered == []
    assert any("--roots" in note.text for note in unknowing.notes)
    assert checked(kept, signer).tampered


def test_a_living_store_is_not_mistaken_for_a_changed_one(
    opened: Opener, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "HEADS_SECONDS", 0.0)
    store = opened()
    for round_ in range(30):
        deliver(store, chain, *(denial(round_ * 10 + number) for number in range(10)))
        assert checked(tmp_path / "audit").tampered == []


def test_what_retention_removed_is_signed_for(
    opened: Opener, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETENTION_SECONDS", 0.0)
    old, young = NOW - 1000, 4_000_000_000_000
    store = opened(bounds=Bounds(age=timedelta(hours=1)))
    deliver(
        store,
        chain,
        denial(0, millis=old),
        denial(1, millis=old),
        denial(2, millis=young),
        denial(3, millis=old),
    )
    until(lambda: len(store.find(denial(0, millis=old)["id"])) == 0)
    assert len(store.find(denial(3, millis=old)["id"])) == 1, "only whole beginnings go"
    assert store.greet(chain.writer, chain.name, chain.head(4)).result(WAIT_SECONDS) == 4
    assert store.greet(chain.writer, chain.name, chain.head(1)).result(WAIT_SECONDS) == 4
    assert deliver(store, chain, denial(4, millis=young)) == 5
    again = store.append(chain.writer, chain.name, chain.links).result(WAIT_SECONDS)
    assert again == 5, "what was removed may come again, and is passed over"
    store.close()
    assert checked(tmp_path / "audit").tampered == []
    edit(tmp_path / "audit", "DELETE FROM records WHERE sequence = 3")
    assert checked(tmp_path / "audit").tampered[0].sequence == 3


def test_who_writes_most_loses_the_oldest_first(
    opened: Opener, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-8: a flood of one namespace doesn't push out what another's proxies recorded."""
    monkeypatch.setattr(keeping, "RETENTION_SECONDS", 0.05)
    monkeypatch.setattr(retention, "CHUNK_ROWS", 50)
    store = opened(bounds=Bounds(size_bytes=600_000))
    quiet = Chain(Writer("spiffe://test/ns/bank/sa/vault", "uid-9", "bank", "vault-0", "deployment/bank/v"))
    names = {"namespace": "bank", "pod": "vault-0", "workload": "deployment/bank/v"}
    deliver(store, quiet, *(denial(number, **names) for number in range(20)))
    for round_ in range(40):
        deliver(store, chain, *(denial(round_ * 50 + number) for number in range(50)))
    until(lambda: 0 < store.standing.size_bytes <= 600_000)
    until(lambda: not store.find(denial(0)["id"])[1:])
    assert len(store.records(Filter(namespace="bank"), 1000)) == 20
    store.close()
    assert checked(tmp_path / "audit").tampered == []


def test_a_long_heads_file_begins_anew(
    opened: Opener, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "HEADS_SECONDS", 0.0)
    monkeypatch.setattr(heads, "MOST_BYTES", 4000)
    store = opened()
    deliver(store, chain, denial(0))
    file = tmp_path / "audit" / "heads.jsonl"
    sizes = []
    for number in range(8):
        before = file.stat().st_mtime_ns
        deliver(store, chain, denial(number))
        until(lambda before=before: file.stat().st_mtime_ns != before)  # type: ignore[misc]
        sizes.append(file.stat().st_size)
    assert sizes != sorted(sizes)
    store.close()
    assert checked(tmp_path / "audit").tampered == []


def test_the_command(
    kept: Path,
    signer: RealSigner,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    words = ["audit", "verify", "--store", str(kept), "--roots", str(signer.roots)]
    assert run(words) == ExitCode.DONE
    assert "nobody changed it: 8 records in 2 chains, 3 said to be lost" in capsys.readouterr().out
    edit(kept, "DELETE FROM records WHERE place = 3")
    assert run([*words, "-o", "json"]) == ExitCode.NO
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["tampered"][0]["sequence"]) == ("tampered", 3)
    assert run(["audit", "verify", "--store", str(tmp_path)]) == ExitCode.NOT_FOUND
    assert run(["audit", "verify"]) == ExitCode.UNREACHABLE
    assert (
        run(["audit", "verify", "--store", str(kept), "--roots", str(kept / "heads.jsonl")]) == ExitCode.USAGE
    )
