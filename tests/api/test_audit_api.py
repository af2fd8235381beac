"""Denials through a real API server: who may read which, as kubectl and policyctl see it."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from policyd.audit.store import Content
from policyd.audit_api.names import MOST_LISTED
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.distribute.envelope import sha256
from policyd.distribute.table_sources import sources_of, versions
from policyd.model.names import ObjectKey, WorkloadName
from policyd_api.v1 import stream_pb2 as wire
from tests.api import crds, objects
from tests.api.audit_policyd import ROOT, WAIT_SECONDS, AuditPolicyd, until
from tests.api.certificates import Authority
from tests.api.rig import ApiServer, RigError

LISTED = "{}/namespaces/{}/denials"
CONFIG = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
MANY = 1200


@pytest.fixture(scope="module")
def policyd(api: ApiServer) -> Iterator[AuditPolicyd]:
    """An API server of the module's own: what it is told of its front proxy changes here."""
    del api  # skips where there are no programs
    folder = Path(tempfile.mkdtemp(prefix="policyd-audit-api-"))
    (folder / "policyd").mkdir()
    server = ApiServer(folder, ["--enable-aggregator-routing=false"])
    started: AuditPolicyd | None = None
    try:
        server.start()
        crds.install(server, *crds.ours())
        started = AuditPolicyd(server, folder / "policyd")
        started.start()
        yield started
    finally:
        if started is not None:
            started.stop()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shop(policyd: AuditPolicyd) -> str:
    return objects.create_namespace(policyd.api)


@pytest.fixture
def bank(policyd: AuditPolicyd) -> str:
    return objects.create_namespace(policyd.api)


def kubectl(policyd: AuditPolicyd, kubeconfig: Path, *words: str) -> str:
    return policyd.api.kubectl(*words, kubeconfig=kubeconfig)


def listed(policyd: AuditPolicyd, namespace: str, query: str = "") -> Any:
    return policyd.api.request("GET", LISTED.format(ROOT, namespace) + query)


def refused(policyd: AuditPolicyd, kubeconfig: Path, *words: str) -> str:
    with pytest.raises(RigError) as caught:
        kubectl(policyd, kubeconfig, *words)
    return str(caught.value)


def test_kubectl_shows_columns_that_mean_something(policyd: AuditPolicyd, shop: str) -> None:
    spool = policyd.spool(shop)
    first, second = spool.deny(), spool.deny(reason="no_identity", peer={"ip": "10.9.9.9", "identity": None})
    reader = policyd.reader(shop)
    lines = kubectl(policyd, reader, "get", "denials", "-n", shop).splitlines()
    assert lines[0].split() == ["NAME", "TIME", "CALLER", "TO", "REQUEST", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == [second, first], "the newest first"
    assert f"deployment/{shop}/cart:80" in lines[1]
    assert ("10.9.9.9" in lines[1], "no_identity" in lines[1], "shop/web" in lines[2]) == (True, True, True)
    assert "GET /a" in lines[2]
    told = json.loads(kubectl(policyd, reader, "get", "denial", first, "-n", shop, "-o", "json"))
    assert (told["kind"], told["record"]["id"], told["metadata"]["namespace"]) == ("Denial", first, shop)
    described = kubectl(policyd, reader, "describe", "denial", first, "-n", shop)
    assert "no_matching_rule" in described
    chosen = kubectl(policyd, reader, "get", "denials", "-n", shop, "--field-selector", "reason=no_identity")
    assert [line.split()[0] for line in chosen.splitlines()[1:]] == [second]


def test_kubectl_explains_what_a_denial_is(policyd: AuditPolicyd) -> None:
    def said() -> str:
        try:
            return policyd.api.kubectl("explain", "denials")
        except RigError as error:
            return str(error)

    # The API server fetches such documents once a minute, and again later where nobody answered yet.
    until(lambda: "Denial is a request that a proxy refused" in said(), 2 * WAIT_SECONDS + 30, said)


def test_p_08_a_reader_of_one_namespace_learns_nothing_of_another(
    policyd: AuditPolicyd, shop: str, bank: str
) -> None:
    ours, theirs = policyd.spool(shop).deny(), policyd.spool(bank).deny()
    policyd.spool(bank).deliver({"event": "lost", "count": 7, "reason": "spool_full"})
    reader = policyd.reader(shop)
    for words in (
        ("get", "denials", "-n", bank),
        ("get", "denials", "-A"),
        ("get", "denialgroups", "-n", bank),
    ):
        assert "Forbidden" in refused(policyd, reader, *words)
    # Asked for in a namespace that may be read, another's is as if it weren't there.
    absent = refused(policyd, reader, "get", "denial", "0" * 8 + "-0000-7000-8000-000000000000", "-n", shop)
    foreign = refused(policyd, reader, "get", "denial", theirs, "-n", shop)
    assert "NotFound" in foreign
    assert foreign.rpartition(": ")[2].replace(theirs, "ID") == absent.rpartition(": ")[2].replace(
        "00000000-0000-7000-8000-000000000000", "ID"
    )
    raw = f"{ROOT}/namespaces/{shop}/denials/{theirs}/explanation"
    assert "NotFound" in refused(policyd, reader, "get", "--raw", raw)
    for query in ("", "?id=" + theirs, "?workload=deployment/" + bank + "/cart", "?namespace=" + bank):
        path = LISTED.format(ROOT, shop) + query
        try:
            text = kubectl(policyd, reader, "get", "--raw", path)
        except RigError as error:
            text = str(error)
        assert theirs not in text.replace(query, "")
        assert '"count":7' not in text
    groups = json.loads(kubectl(policyd, reader, "get", "--raw", f"{ROOT}/namespaces/{shop}/denialgroups"))
    assert [each["group"]["example"] for each in groups["items"]] == [ours]
    assert groups["gaps"] == []
    everything = json.dumps(policyd.api.request("GET", f"{ROOT}/denials"))
    assert ours in everything
    assert theirs in everything


def test_p_08_a_right_that_is_taken_away_counts_no_longer_than_it_says(
    policyd: AuditPolicyd, shop: str
) -> None:
    denied = policyd.spool(shop).deny()
    reader = policyd.reader(shop)
    assert denied in kubectl(policyd, reader, "get", "denials", "-n", shop)
    policyd.api.kubectl("delete", "rolebinding", "reader", "-n", shop)
    began = time.monotonic()
    until(lambda: "Forbidden" in _said(policyd, reader, shop))
    assert time.monotonic() - began < 20


def _said(policyd: AuditPolicyd, kubeconfig: Path, namespace: str) -> str:
    try:
        return kubectl(policyd, kubeconfig, "get", "denials", "-n", namespace)
    except RigError as error:
        return str(error)


def test_thousands_come_a_bounded_page_at_a_time(policyd: AuditPolicyd, shop: str) -> None:
    ids = policyd.spool(shop).deny_many(MANY)
    page = listed(policyd, shop)
    assert len(page["items"]) == MOST_LISTED
    assert len(listed(policyd, shop, "?limit=100000")["items"]) == MOST_LISTED
    found, token, pages = [], "", 0
    while True:
        page = listed(policyd, shop, f"?limit=300&continue={token}")
        found += [each["metadata"]["name"] for each in page["items"]]
        pages += 1
        if pages == 1:
            policyd.spool(shop, "cart-1").deny()  # what comes meanwhile shifts nothing
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert found == ids[::-1]
    assert pages == MANY // 300 + 1
    names = policyd.api.kubectl("get", "denials", "-n", shop, "-o", "name", "--chunk-size=250").split()
    assert len(names) == MANY + 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?limit=x", 400),
        ("?reasn=no_identity", 400),
        ("?fieldSelector=spec.x%3D1", 400),
        ("?fieldSelector=reason!%3Da", 400),
        ("?labelSelector=a%3Db", 400),
        ("?continue=AAAA", 400),
        ("?since=yesterday", 400),
        ("?id=ab", 400),
        ("?since=1m&since=2m", 400),
        ("?watch=true&sendInitialEvents=true", 422),
        ("?watch=true&resourceVersion=99999999999", 410),
    ],
)
def test_a_question_that_is_not_understood_is_refused(
    policyd: AuditPolicyd, shop: str, query: str, status: int
) -> None:
    path = LISTED.format(ROOT, shop) + query
    if status == 410:  # a watch has begun by then, and says it as its first event
        text = policyd.api.kubectl("get", "--raw", path)
        assert json.loads(text)["object"]["code"] == status
        return
    with pytest.raises(RigError, match=f": {status} "):
        policyd.api.request("GET", path)


def test_denials_cannot_be_written(policyd: AuditPolicyd, shop: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(RigError, match=": 405 "):
            policyd.api.request(method, LISTED.format(ROOT, shop), {})


def test_a_watch_tells_what_comes_and_only_of_its_namespace(
    policyd: AuditPolicyd, shop: str, bank: str
) -> None:
    spool, other = policyd.spool(shop), policyd.spool(bank)
    before = spool.deny()
    reader = policyd.reader(shop)
    command = [policyd.api.programs / "kubectl", "--kubeconfig", reader, "get", "denials", "-n", shop]
    with subprocess.Popen([*command, "-w", "-o", "name"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == f"denial.audit.policyd.dev/{before}"
            other.deny()
            expected = [spool.deny() for _ in range(3)]
            told = [process.stdout.readline().strip().rpartition("/")[2] for _ in range(3)]
            assert told == expected
        finally:
            process.terminate()


def direct(policyd: AuditPolicyd, certificate: tuple[Path, Path] | None = None) -> httpx.Client:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(*certificate)
    masters = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    return httpx.Client(verify=context, headers=masters, base_url=f"https://127.0.0.1:{policyd.port}")


def test_headers_without_the_front_proxys_certificate_are_nothing(policyd: AuditPolicyd) -> None:
    for path in (f"{ROOT}/denials", "/apis", ROOT, "/openapi/v2", "/"):
        with direct(policyd) as imposter:
            answer = imposter.get(path)
        assert answer.status_code == 401
        assert answer.json()["reason"] == "Unauthorized"


def test_a_certificate_of_another_name_or_authority_is_none(policyd: AuditPolicyd, tmp_path: Path) -> None:
    front = policyd.api.front
    with direct(policyd, front.issue("front-proxy")) as proxy:
        assert proxy.get(f"{ROOT}/denials").status_code == 200
    with direct(policyd, front.issue("somebody")) as imposter:
        assert imposter.get(f"{ROOT}/denials").status_code == 401
    with (
        direct(policyd, policyd.api.clients.issue("front-proxy")) as user,
        pytest.raises(httpx.TransportError),
    ):
        user.get(f"{ROOT}/denials")
    other = Authority(tmp_path, "front").issue("front-proxy")
    with direct(policyd, other) as imposter, pytest.raises(httpx.TransportError):
        imposter.get(f"{ROOT}/denials")
    with direct(policyd, front.issue("front-proxy", ended=True)) as late, pytest.raises(httpx.TransportError):
        late.get(f"{ROOT}/denials")
    with (
        direct(policyd, front.issue("front-proxy", serving=("127.0.0.1",))) as server,
        pytest.raises(httpx.TransportError),
    ):
        server.get(f"{ROOT}/denials")


def test_an_authority_that_is_replaced_counts_no_more_also_on_open_connections(
    policyd: AuditPolicyd, tmp_path: Path
) -> None:
    """The API server writes its own back, at the latest when it starts again: this looks at policyd alone."""
    api = policyd.api
    kept = api.request("GET", CONFIG)["data"]
    merge = {"Content-Type": "application/merge-patch+json"}
    other = Authority(tmp_path, "next")
    with direct(policyd, api.front.issue("front-proxy")) as before:
        assert before.get(f"{ROOT}/denials").status_code == 200
        replaced = {"requestheader-client-ca-file": other.certificate.read_text()}
        api.request("PATCH", CONFIG, {"data": replaced}, **merge)
        until(lambda: _status(before) == 401)
        with direct(policyd, other.issue("front-proxy")) as after:
            assert after.get(f"{ROOT}/denials").status_code == 200
        api.request("PATCH", CONFIG, {"data": {"requestheader-client-ca-file": "no certificate"}}, **merge)
        with direct(policyd) as nobody:
            until(lambda: "isn't known" in nobody.get("/apis").text)
    api.request("PATCH", CONFIG, {"data": kept}, **merge)
    policyd.until_available()
    until(lambda: _answers(policyd))


def _status(client: httpx.Client) -> int:
    try:
        return client.get(f"{ROOT}/denials").status_code
    except httpx.TransportError:
        return 401  # the connection was closed with the refusal, and there is no other


def _answers(policyd: AuditPolicyd) -> bool:
    try:
        policyd.api.request("GET", f"{ROOT}/denials")
    except RigError:
        return False
    return True


def test_an_api_server_that_was_away_asks_again(policyd: AuditPolicyd, shop: str) -> None:
    denied = policyd.spool(shop).deny()
    with policyd.api.away():
        pass
    until(lambda: _answers(policyd))
    assert [each["metadata"]["name"] for each in listed(policyd, shop)["items"]] == [denied]


def test_the_bundle_that_somebody_wipes_is_back(policyd: AuditPolicyd) -> None:
    path = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.audit.policyd.dev"
    bundle = policyd.api.request("GET", path)["spec"]["caBundle"]
    steps = [{"op": "remove", "path": "/spec/caBundle"}]
    patch = {"Content-Type": "application/json-patch+json"}
    policyd.api.request("PATCH", path, steps, **patch)
    until(lambda: policyd.api.request("GET", path)["spec"].get("caBundle") == bundle)


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
    until(lambda: is_seen(policyd, f"{LISTED.format(ROOT, shop)}/{denied}/explanation"))
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
