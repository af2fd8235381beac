"""The time to revoke, for every kind of object of the authorization graph (promise P-3).

From before a change is saved until new requests are refused, and until open work is cut: an HTTP/1 answer
that goes on, a gRPC stream, a TCP connection. What was measured is printed, and is in `build/revocation.md`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from policyd.up.tokens import write_private
from servicekit.svid import Svid

from .calls import Caller, caller
from .mesh import Mesh
from .revocations import CASES, POD_CASES, Case
from .vault import ALL, WORKLOADS

pytestmark = pytest.mark.asyncio(loop_scope="module")

DENIED_SECONDS = 1.0
CUT_SECONDS = 5.0
GIVE_UP_SECONDS = 10.0
GRANTED_SECONDS = 15.0
POLL_SECONDS = 0.005
BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
REPORT = Path(__file__).parents[2] / "build" / "revocation.md"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vault and its caller; nothing is granted."""
    folder = tmp_path_factory.mktemp("vaults")
    (folder / "workloads.yaml").write_text(WORKLOADS)
    return folder


@dataclass
class Measured:
    """Of one port in one case, in seconds."""

    case: str
    kind: str
    port: str
    denied: float
    cut: float


@dataclass
class Vault:
    """The vault, and who calls it."""

    mesh: Mesh
    policy: Path
    svid: Svid

    @property
    def host(self) -> str:
        return self.mesh.pod("vault-0").addresses.proxy

    def write(self, text: str) -> None:
        """Save policies; the caller's names are filled in."""
        identity, leaf = str(self.svid.identity), x509.load_pem_x509_certificate(self.svid.chain_pem[0])
        sha256 = hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()
        names = {"caller": identity, "nobody": identity.replace("/sa/caller", "/sa/nobody")}
        for name, value in (names | {"uid": self.svid.pod_uid or "", "sha256": sha256}).items():
            text = text.replace(f"{{{name}}}", value)
        new = self.policy.with_suffix(".new")
        new.write_text(text)
        new.replace(self.policy)

    def write_pod(self, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """Save the vault's Pod object as a cluster's would be after `kubectl label` or `annotate`."""
        replica = self.mesh.pod("vault-0")
        pod = replica.manifest()
        pod["metadata"] |= {"labels": labels, "annotations": annotations}
        write_private(self.mesh.up.run.pods / f"vaults_{replica.name}.json", json.dumps(pod))


async def _measured(vault: Vault, case: Case, save: Callable[[], None]) -> list[Measured]:
    """Measure one case; before it everything of it must be granted."""
    asking = {port: caller(port, vault.host, vault.svid) for port in case.ports}
    working = {port: caller(port, vault.host, vault.svid) for port in case.ports}
    try:
        for port in case.ports:
            await _until(asking[port], True, GRANTED_SECONDS, f"{case.name}: {port} is never granted")
            await working[port].begin()
        began = time.monotonic()
        save()
        times = [_times(case, port, asking[port], working[port], began) for port in case.ports]
        return list(await asyncio.gather(*times))
    finally:
        for each in (*asking.values(), *working.values()):
            each.close()


async def _times(case: Case, port: str, asking: Caller, working: Caller, began: float) -> Measured:
    async def denied() -> float:
        await _until(asking, False, GIVE_UP_SECONDS, f"{case.name}: {port} is never denied")
        return time.monotonic() - began

    async def cut() -> float:
        await asyncio.wait_for(working.cut(), GIVE_UP_SECONDS)
        return time.monotonic() - began

    found = Measured(case.name, case.kind, port, *await asyncio.gather(denied(), cut()))
    assert not await asking.allowed(), f"{case.name}: {port} is granted again"
    return found


async def _until(asking: Caller, allowed: bool, seconds: float, otherwise: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while await asking.allowed() is not allowed:
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        pytest.fail(otherwise)


def _report(measured: list[Measured]) -> str:
    """Counts by how long it took, for all and for each kind of object, as a Markdown table."""
    heads = [f"≤ {bound * 1000:.0f} ms" if bound < 1 else f"≤ {bound:.0f} s" for bound in BUCKETS]
    lines = [
        "# Time to revoke",
        "",
        "From before the change is saved; polled every 5 ms. Promise P-3: new requests refused within 1 s,",
        f"open work cut within 5 s. {len({each.case for each in measured})} changes, {len(measured)} times.",
        "",
        f"| | {' | '.join(heads)} | more | worst |",
        f"|---|{'---|' * (len(BUCKETS) + 2)}",
    ]
    for port in ALL:
        of_port = [each for each in measured if each.port == port]
        lines += [
            _row(f"{port}: denied", [each.denied for each in of_port]),
            _row(f"{port}: cut", [each.cut for each in of_port]),
        ]
    lines += [
        "",
        "| object | changes | denied, median | denied, worst | cut, worst |",
        "|---|---|---|---|---|",
    ]
    for kind in sorted({each.kind for each in measured}):
        of_kind = [each for each in measured if each.kind == kind]
        denied = sorted(each.denied for each in of_kind)
        changes = len({each.case for each in of_kind})
        figures = (denied[len(denied) // 2], denied[-1], max(each.cut for each in of_kind))
        lines.append(f"| {kind} | {changes} | {' | '.join(f'{one * 1000:.0f} ms' for one in figures)} |")
    return "\n".join(lines) + "\n"


def _row(name: str, times: list[float]) -> str:
    counts = [0] * (len(BUCKETS) + 1)
    for one in times:
        counts[bisect_left(BUCKETS, one)] += 1
    told = " | ".join(str(count or "") for count in counts)
    return f"| {name} | {told} | {max(times) * 1000:.0f} ms |"


@pytest.mark.promise("P-3")
async def test_p_3_every_kind_of_object_revokes_in_time(
    mesh: Mesh, manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = Vault(mesh, manifests / "policy.yaml", mesh.svid("callers/caller", mesh.pod("caller-0").uid))
    measured: list[Measured] = []
    for case in CASES:
        vault.write(case.before)
        measured += await _measured(vault, case, lambda case=case: vault.write(case.after))  # type: ignore[misc]
    for change, labels, notes, granted in POD_CASES:
        case = Case("Pod", change, granted, granted)
        vault.write(granted)
        vault.write_pod({"app": "vault"}, {})
        measured += await _measured(vault, case, lambda pod=(labels, notes): vault.write_pod(*pod))  # type: ignore[misc]
        vault.write_pod({"app": "vault"}, {})
    text = _report(measured)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text)
    with capsys.disabled():
        print(f"\n{text}")  # noqa: T201 — the histogram
    late = [each for each in measured if each.denied > DENIED_SECONDS or each.cut > CUT_SECONDS]
    assert not late
