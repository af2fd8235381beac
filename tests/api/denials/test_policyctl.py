"""policyctl asks a cluster for denials and explanations as it asks a store."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from policyd.audit.store import Content
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.distribute.envelope import sha256
from policyd.distribute.table_sources import sources_of, versions
from policyd.model.names import ObjectKey, WorkloadName
from policyd_api.v1 import stream_pb2 as wire
from tests.api.audit_policyd import DENIALS, AuditPolicyd, until
from tests.api.rig import ApiServer


def policyctl(capsys: pytest.CaptureFixture[str], kubeconfig: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([*words, "--kubeconfig", str(kubeconfig)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_policyctl_asks_the_cluster_as_it_asks_a_store(
    policyd: AuditPolicyd, shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = policyd.spool(shop)
    spool.deny_many(30)
    spool.deny(reason="no_identity", peer={"ip": "10.9.9.9", "identity": None})
    spool.deliver({"event": "lost", "count": 12, "reason": "spool_full"})
    reader = policyd.reader(shop)
    folder = policyd.store.standing.folder
    for words in (
        (),
        ("--list",),
        ("--reason", "no_identity"),
        ("--would-be",),
        ("-o", "json"),
        ("--list", "-o", "json"),
    ):
        asked = ("denials", "-n", shop, *words)
        code, out, err = policyctl(capsys, reader, *asked)
        assert code == ExitCode.DONE, err
        capsys.readouterr()
        assert run([*asked, "--store", folder]) == ExitCode.DONE
        assert out.splitlines() == _but_times(capsys.readouterr().out, out)


def _but_times(text: str, other: str) -> list[str]:
    """The lines of a text; that nobody was denied since a moment may be another moment."""
    lines = text.splitlines()
    return (
        other.splitlines()
        if lines and lines[0].startswith("nobody") and other.startswith("nobody")
        else lines
    )


def test_exit_codes_say_what_went_wrong(
    policyd: AuditPolicyd,
    shop: str,
    bank: str,
    api: ApiServer,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    reader = policyd.reader(shop)
    code, _, err = policyctl(capsys, reader, "denials", "-n", bank)
    assert (code, "cannot list" in err) == (ExitCode.FORBIDDEN, True)
    assert policyctl(capsys, reader, "denials")[0] == ExitCode.FORBIDDEN
    absent = "00000000-0000-7000-8000-000000000000"
    assert policyctl(capsys, reader, "explain", absent, "-n", shop)[0] == ExitCode.NOT_FOUND
    code, _, err = policyctl(capsys, api.kubeconfig, "denials")
    assert (code, "audit.policyd.dev" in err) == (ExitCode.UNREACHABLE, True), "no policyd there"
    away = tmp_path / "away"
    away.write_text(reader.read_text().replace(str(policyd.api.port), "1"))
    assert policyctl(capsys, away, "denials")[0] == ExitCode.UNREACHABLE


WORLD = """
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: cart, namespace: NS}
spec: {podSelector: {matchLabels: {app: cart}}, port: 80, proxyProtocol: HTTP/1, accessPolicy: deny}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: NS, labels: {kustomize.toolkit.fluxcd.io/name: books}}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: cart}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: reader}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: NS}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {serviceAccountName: default, containers: [{name: app, image: a, ports: [{containerPort: 80}]}]}
"""


def denied_by_a_table(policyd: AuditPolicyd, shop: str) -> str:
    """What a proxy of the shop records, and what policyd keeps beside it."""
    policyd.api.apply(WORLD.replace("NS", shop))
    manifests, _ = Cluster(policyd.api.kubeconfig).read("cluster.local")
    name = WorkloadName("deployment", shop, "cart")
    table = manifests.compiler.table(name)
    assert table is not None
    member = ObjectKey("apps", "Deployment", shop, "cart")
    facts = wire.PodFacts(name="cart-0", addresses=["10.1.1.1"]).SerializeToString(deterministic=True)
    listed = json.dumps(versions(sources_of(manifests.world, table, member)), sort_keys=True).encode()
    hashes = {kind: f"sha256:{sha256(each).hex()}" for kind, each in (("facts", facts), ("sources", listed))}
    kept = [("table", table.version, table.snapshot), ("facts", hashes["facts"], facts)]
    policyd.store.keep([Content(*each) for each in (*kept, ("sources", hashes["sources"], listed))])
    record = {"event": "table", "time": "2026-11-01T00:00:00Z", "namespace": shop, "workload": name.text}
    more = {"table": table.version, "sources": hashes["sources"], "changes": []}
    policyd.store.note(json.dumps({**record, **more}).encode())
    until(lambda: bool(policyd.store.tables(name.text, 1)))
    return policyd.spool(shop).deny(table=table.version, facts=hashes["facts"])


def is_seen(policyd: AuditPolicyd, path: str) -> bool:
    """Whether policyd knows the policy by now: a kind whose CRD is new is looked for now and then."""
    misses = policyd.api.request("GET", path)["explanation"]["nearMisses"]
    return bool(misses) and misses[0]["written"] is not None


def test_who_may_read_denials_alone_is_told_why(
    policyd: AuditPolicyd, shop: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    denied = denied_by_a_table(policyd, shop)
    reader = policyd.reader(shop)
    until(lambda: is_seen(policyd, f"{DENIALS.format(shop)}/{denied}/explanation"))
    code, out, err = policyctl(capsys, reader, "explain", denied, "-n", shop, "-o", "json")
    assert code == ExitCode.NO, err
    told = json.loads(out)
    assert (told["id"], told["reason"], told["now"]["verdict"]) == (denied, "no_matching_rule", "deny")
    assert f"it names {shop}/reader; the caller is shop/web" in told["nearMisses"][0]["why"][0]
    assert told["nearMisses"][0]["written"] == "generation 1"
    code, page, _ = policyctl(capsys, reader, "explain", denied[:20], "-n", shop)
    assert code == ExitCode.NO
    assert f"request     GET /a to deployment/{shop}/cart:80" in page
    assert "smallest change" not in page, "a reader of denials may not read the rest"
    (tmp_path / "books.yaml").write_text(WORLD.replace("NS", shop))
    code, page, err = policyctl(capsys, reader, "explain", denied, "-n", shop, "-f", str(tmp_path))
    assert code == ExitCode.NO, err
    assert "the smallest change that allows it" in page


def test_what_was_changed_says_who_and_through_what(
    policyd: AuditPolicyd, shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = f"""
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: nobody, namespace: {shop}, labels: {{kustomize.toolkit.fluxcd.io/name: books}}}}
spec:
  action: Deny
  targetRef: {{group: policyd.dev, kind: Server, name: cart}}
  requiredAuthenticationRefs: [{{kind: ServiceAccount, name: web, namespace: shop}}]
"""
    policyd.api.apply(WORLD.replace("NS", shop))
    policyd.api.apply(refusing)
    denied = denied_by_a_table(policyd, shop)
    record = json.loads(policyd.store.find(denied)[0]["json"])
    spool = policyd.spool(shop, "cart-2")
    name = f"authorizationpolicy.policyd.dev/{shop}/nobody"
    again = spool.deny(
        table=record["table"], facts=record["facts"], reason="explicit_deny", authorization=name, pod="cart-2"
    )
    code, page, err = policyctl(capsys, policyd.reader(shop), "explain", again, "-n", shop)
    assert code == ExitCode.NO, err
    assert f"Deny authorizationpolicy/{shop}/nobody refuses shop/web" in page
    assert "by kubectl (Apply) through Flux Kustomization books" in page


def test_following_goes_on_with_every_new_one(policyd: AuditPolicyd, shop: str) -> None:
    spool = policyd.spool(shop)
    reader = policyd.reader(shop)
    program = "import sys; from policyd.cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "denials",
        "--follow",
        "--since",
        "1h",
        "-n",
        shop,
        "-o",
        "json",
    ]
    first = spool.deny()
    with subprocess.Popen(
        [*command, "--kubeconfig", str(reader)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["id"] == first
            second = spool.deny()
            assert json.loads(process.stdout.readline())["id"] == second
            spool.deliver({"event": "lost", "count": 3, "reason": "spool_full"})
            assert json.loads(process.stdout.readline())["count"] == 3
        finally:
            process.terminate()
