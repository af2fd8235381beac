"""Several policyd on one PostgreSQL database: any of them answers for all."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api import crds, objects
from tests.api.audit_policyd import ROOT, AuditPolicyd, until
from tests.api.rig import ApiServer
from tests.postgres.server import PostgresServer, programs_or_skip


@pytest.fixture(scope="module")
def replicas(api: ApiServer) -> Iterator[tuple[AuditPolicyd, AuditPolicyd]]:
    """Two policyd of one install."""
    del api  # skips where there are no programs
    found = programs_or_skip("REPLICAS")
    # Each ends, also where one before it wouldn't.
    with contextlib.ExitStack() as ended:
        folder = Path(tempfile.mkdtemp(prefix="policyd-replicas-"))
        ended.callback(shutil.rmtree, folder, ignore_errors=True)
        database = PostgresServer(found)
        ended.callback(database.remove)
        server = ApiServer(folder, ["--enable-aggregator-routing=false"])
        ended.callback(server.stop)
        database.start()
        server.start()
        crds.install(server, *crds.ours())
        for name in ("one", "other"):
            (folder / name).mkdir()
        one = AuditPolicyd(server, folder / "one", database.database())
        ended.callback(one.store.close)
        ended.callback(one.end)
        one.start()
        other = one.replica(folder / "other")
        ended.callback(other.end)
        other.begin()
        yield one, other


def client(policyd: AuditPolicyd) -> httpx.Client:
    """The front proxy of the API server, as it would ask this one replica."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*policyd.api.front.issue("front-proxy"))
    masters = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    return httpx.Client(verify=context, headers=masters, base_url=f"https://127.0.0.1:{policyd.port}")


def names(policyd: AuditPolicyd, path: str) -> list[str]:
    try:
        with client(policyd) as asking:
            answer = asking.get(path)
    except httpx.TransportError:
        return []
    return [each["metadata"]["name"] for each in answer.json().get("items", ())]


def test_any_replica_answers_for_all(replicas: tuple[AuditPolicyd, AuditPolicyd]) -> None:
    one, other = replicas
    shop = objects.create_namespace(one.api)
    ids = [one.spool(shop, "cart-0").deny(), one.spool(shop, "cart-1").deny()]
    path = f"{ROOT}/namespaces/{shop}/denials"
    until(lambda: names(other, path) == ids[::-1], 60, lambda: other.log[-2000:])
    assert names(one, path) == ids[::-1]
    assert one.api.kubectl("get", "denials", "-n", shop, "-o", "name").count("denial.audit") == 2


def test_a_list_of_one_replica_goes_on_at_the_other(replicas: tuple[AuditPolicyd, AuditPolicyd]) -> None:
    one, other = replicas
    shop = objects.create_namespace(one.api)
    ids = one.spool(shop).deny_many(30)
    path = f"{ROOT}/namespaces/{shop}/denials?limit=20"
    with client(one) as first:
        page = first.get(path).json()
    with client(other) as second:
        rest = second.get(f"{path}&continue={page['metadata']['continue']}").json()
        found = [each["metadata"]["name"] for each in (*page["items"], *rest["items"])]
        assert found == ids[::-1]
        version = page["metadata"]["resourceVersion"]
        more = one.spool(shop, "cart-1").deny()
        with second.stream("GET", f"{path}&watch=true&resourceVersion={version}&timeoutSeconds=60") as lines:
            event = json.loads(next(iter(lines.iter_lines())))
        assert event["object"]["metadata"]["name"] == more


def test_one_replica_is_enough(replicas: tuple[AuditPolicyd, AuditPolicyd]) -> None:
    one, other = replicas
    shop = objects.create_namespace(one.api)
    denied = one.spool(shop).deny()
    one.end()
    path = f"{ROOT}/namespaces/{shop}/denials"
    until(lambda: names(other, path) == [denied], 30, lambda: other.log[-2000:])
    one.begin()
    until(lambda: names(one, path) == [denied], 60, lambda: one.log[-2000:])
