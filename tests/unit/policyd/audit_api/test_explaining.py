"""What an explanation tells, and to whom: never what stands where the asker may not read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.audit.record import Writer
from policyd.audit.sqlite import SqliteStore
from policyd.audit.store import Content
from policyd.audit_api.explaining import Explainer
from policyd.audit_api.front_proxy import Caller
from policyd.audit_api.refusal import Refusal
from policyd.audit_api.reviews import Deed
from policyd.audit_api.sight import Enforced, is_policy
from policyd.distribute.envelope import sha256
from policyd.distribute.table_sources import sources_of, versions
from policyd.engine import Table
from policyd.explain.manifests import Manifests
from policyd.explain.told import report_of
from policyd.model.names import ObjectKey, WorkloadName
from policyd.resources.base import Document
from policyd.resources.kinds import key_of, plural_of
from policyd.resources.read import read
from policyd_api.v1 import stream_pb2 as wire
from tests.api.audit_policyd import NoSigner, Spool

ASKER = Caller("dev")
FRIEND = "secretive"
"""An account that only an authentication elsewhere names."""
WORLD = """
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: cart, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}, port: 80, proxyProtocol: HTTP/1, accessPolicy: deny}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop, generation: 3, labels: {argocd.argoproj.io/instance: books}}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: cart}
  requiredAuthenticationRefs:
  - {group: policyd.dev, kind: MeshTLSAuthentication, name: friends, namespace: WHERE}
---
apiVersion: policyd.dev/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: friends, namespace: WHERE}
spec: {identities: ["spiffe://cluster.local/ns/vault/sa/secretive"]}
---
apiVersion: policyd.dev/v1alpha1
kind: MeshDefaults
metadata: {name: default}
spec: {defaultAccess: deny}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  template:
    metadata: {labels: {app: cart}}
    spec: {serviceAccountName: cart, containers: [{name: app, image: app, ports: [{containerPort: 80}]}]}
"""
FACTS = wire.PodFacts(name="cart-0", addresses=["10.1.1.1"]).SerializeToString(deterministic=True)


@dataclass
class Rights:
    """Who may what: `allowed` are the objects that the asker may read."""

    allowed: set[ObjectKey] = field(default_factory=set)
    asked: list[Deed] = field(default_factory=list)

    async def allowed_to(self, caller: Caller, deed: Deed) -> bool:
        assert caller == ASKER
        self.asked.append(deed)
        return any(
            (deed.resource, deed.namespace, deed.name) == (plural_of(key.kind), key.namespace, key.name)
            for key in self.allowed
        )


@dataclass
class Shop:
    """A store with one denial, and how its workload stands."""

    store: SqliteStore
    enforced_now: Enforced
    denied: str
    rights: Rights

    def enforced(self, workload: str, namespace: str, pod: str) -> Enforced:
        assert (workload, namespace, pod) == ("deployment/shop/cart", "shop", "cart-0")
        return self.enforced_now

    async def explain(self) -> dict[str, Any]:
        async def at_once(work: Any) -> Any:
            return work()

        class Reviews:
            allowed = self.rights.allowed_to

        return await Explainer(self.store, self, Reviews(), at_once).explain(  # type: ignore[arg-type]
            ASKER, "shop", self.denied
        )


def made(store: SqliteStore, text: str, *, sources_are_kept: bool = True) -> Shop:
    documents = [Document(each) for each in yaml.safe_load_all(text)]
    manifests = Manifests.of([found for found in map(read, documents) if found is not None])
    name = WorkloadName("deployment", "shop", "cart")
    table = manifests.compiler.table(name)
    assert table is not None
    member = ObjectKey("apps", "Deployment", "shop", "cart")
    sources = sources_of(manifests.world, table, member)
    listed = json.dumps(versions(sources), sort_keys=True).encode()
    kept = f"sha256:{sha256(listed).hex()}"
    facts = f"sha256:{sha256(FACTS).hex()}"
    contents = [("table", table.version, table.snapshot), ("facts", facts, FACTS)]
    contents += [("sources", kept, listed)] if sources_are_kept else []
    store.keep([Content(*each) for each in contents])
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {
        "event": "table",
        "time": at,
        "namespace": "shop",
        "workload": name.text,
        "table": table.version,
    }
    store.note(json.dumps({**record, "before": None, "sources": kept, "changes": []}).encode())
    assert Table(table.snapshot).version == table.version
    denied = Spool(store, "shop").deny(table=table.version, facts=facts)
    deadline = time.monotonic() + 30
    while not store.tables(name.text, 1) or store.content(facts) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    keys = frozenset(key for key in map(key_of, sources) if key is not None)
    objects = {key: each for key, each in manifests.world.objects.items() if key in keys or is_policy(each)}
    return Shop(store, Enforced("cluster.local", table, objects, keys), denied, Rights())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    own = Writer("spiffe://cluster.local/ns/policyd/sa/policyd", "", "policyd", "policyd", "")
    store = SqliteStore(tmp_path / "audit", own, NoSigner())
    store.start()
    yield store
    store.close()


FRIENDS = ObjectKey("policyd.dev", "MeshTLSAuthentication", "vault", "friends")


async def test_p_08_who_may_not_read_an_authentication_elsewhere_is_not_told_whom_it_names(
    store: SqliteStore,
) -> None:
    shop = made(store, WORLD.replace("WHERE", "vault"))
    found = await shop.explain()
    told = found["explanation"]
    assert (told["reason"], told["nearMisses"][0]["authorization"]) == (
        "no_matching_rule",
        "authorizationpolicy.policyd.dev/shop/readers",
    )
    assert told["nearMisses"][0]["why"] == ["it asks for another caller"]
    assert FRIEND not in json.dumps(found)
    assert found["withheld"] == ["whom the nearest grants mean"]
    asked = {(each.verb, each.group, each.resource, each.namespace, each.name) for each in shop.rights.asked}
    assert ("get", "policyd.dev", "meshtlsauthentications", "vault", "friends") in asked


async def test_p_08_who_may_read_it_is_told(store: SqliteStore) -> None:
    shop = made(store, WORLD.replace("WHERE", "vault"))
    shop.rights.allowed = {FRIENDS}
    found = await shop.explain()
    assert "it names vault/secretive" in found["explanation"]["nearMisses"][0]["why"][0]
    assert found["withheld"] == []


async def test_what_lies_in_the_namespace_itself_is_told(store: SqliteStore) -> None:
    shop = made(store, WORLD.replace("WHERE", "shop"))
    found = await shop.explain()
    told = found["explanation"]
    assert "it names vault/secretive; the caller is shop/web" in told["nearMisses"][0]["why"][0]
    assert told["nearMisses"][0]["written"] == "generation 3"
    assert (found["withheld"], told["now"]["verdict"], told["fix"]) == ([], "deny", None)
    again = report_of(told, found["trustDomain"])
    assert again.data() == told


async def test_a_selector_of_namespaces_needs_the_right_to_list_them(store: SqliteStore) -> None:
    selecting = "spec: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: vault}}}"
    named = 'spec: {identities: ["spiffe://cluster.local/ns/vault/sa/secretive"]}'
    shop = made(store, WORLD.replace("WHERE", "shop").replace(named, selecting))
    found = await shop.explain()
    assert found["withheld"] == ["whom the nearest grants mean"]
    assert Deed("list", "", "namespaces") in shop.rights.asked


async def test_a_former_table_of_which_nobody_knows_what_it_was_made_of_counts_as_elsewhere(
    store: SqliteStore,
) -> None:
    shop = made(store, WORLD.replace("WHERE", "shop"), sources_are_kept=False)
    found = await shop.explain()
    assert found["withheld"] == ["whom the nearest grants mean"]
    assert FRIEND not in json.dumps(found)


async def test_a_denial_of_another_namespace_is_not_there(store: SqliteStore) -> None:
    shop = made(store, WORLD.replace("WHERE", "shop"))
    shop.denied = Spool(store, "bank").deny()
    with pytest.raises(Refusal) as caught:
        await shop.explain()
    assert caught.value.status == 404
