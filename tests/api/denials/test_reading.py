"""Denials through a real API server: who may read which, as kubectl sees it."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from policyd.audit_api.names import MOST_LISTED
from tests.api.audit_policyd import DENIALS, ROOT, WAIT_SECONDS, AuditPolicyd, until
from tests.api.rig import RigError

MANY = 1200


def kubectl(policyd: AuditPolicyd, kubeconfig: Path, *words: str) -> str:
    return policyd.api.kubectl(*words, kubeconfig=kubeconfig)


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
        path = DENIALS.format(shop) + query
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
    page = policyd.denials(shop)
    assert len(page["items"]) == MOST_LISTED
    assert len(policyd.denials(shop, "?limit=100000")["items"]) == MOST_LISTED
    found, token, pages = [], "", 0
    while True:
        page = policyd.denials(shop, f"?limit=300&continue={token}")
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
    path = DENIALS.format(shop) + query
    if status == 410:  # a watch has begun by then, and says it as its first event
        text = policyd.api.kubectl("get", "--raw", path)
        assert json.loads(text)["object"]["code"] == status
        return
    with pytest.raises(RigError, match=f": {status} "):
        policyd.api.request("GET", path)


def test_denials_cannot_be_written(policyd: AuditPolicyd, shop: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(RigError, match=": 405 "):
            policyd.api.request(method, DENIALS.format(shop), {})


def test_a_watch_tells_what_comes_and_only_of_its_namespace(
    policyd: AuditPolicyd, shop: str, bank: str
) -> None:
    spool, other = policyd.spool(shop), policyd.spool(bank)
    before = spool.deny()
    reader = policyd.reader(shop)
    command: list[str | Path] = [
        policyd.api.programs / "kubectl",
        "--kubeconfig",
        reader,
        "get",
        "denials",
        "-n",
        shop,
    ]
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
