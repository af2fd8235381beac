"""What another namespace does change, since one's own or the cluster's objects say so (promise P-8)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from policyd.compile.compiler import Compiler
from policyd.compile.report import report
from policyd.distribute.discovery import Discovery
from tests.property.neighbours import NEIGHBOUR, VICTIM
from tests.property.two_tenants import (
    NOW,
    OF_THE_VICTIM,
    alone,
    grant,
    made_for_the_victim,
    mine,
    put,
    theirs,
)


@pytest.mark.promise("P-8")
@pytest.mark.shows("I5")
def test_p_8_who_refers_to_anothers_authentication_is_changed_by_it() -> None:
    reference = {
        "group": "policyd.dev",
        "kind": "MeshTLSAuthentication",
        "name": "callers",
        "namespace": NEIGHBOUR,
    }
    compiler = alone(grant("p", reference))
    callers = theirs("MeshTLSAuthentication", "callers", {"identities": ["spiffe://cluster.local/ns/m/sa/c"]})
    assert VICTIM in put(compiler, callers)
    assert "TrustsOtherNamespace" in {found.code for found in report(compiler, NOW)}


@pytest.mark.promise("P-8")
@pytest.mark.shows("I4")
def test_p_8_who_selects_namespaces_is_changed_by_their_labels_and_by_nothing_else_of_them() -> None:
    selecting = mine(
        "MeshTLSAuthentication", "teams", {"namespaceSelector": {"matchLabels": {"team": "red"}}}
    )
    reference = {"group": "policyd.dev", "kind": "MeshTLSAuthentication", "name": "teams"}
    compiler = alone(selecting, grant("p", reference), defaults={"trustedNamespaceLabels": ["team"]})

    def namespace(**metadata: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NEIGHBOUR, **metadata}}

    put(compiler, namespace())
    compiled = made_for_the_victim(compiler)
    assert VICTIM not in put(compiler, namespace(annotations={"policyd.dev/opaque-ports": "1-20"}))
    assert made_for_the_victim(compiler) == compiled
    assert VICTIM in put(compiler, namespace(labels={"team": "red"}))


@pytest.mark.promise("P-8")
@pytest.mark.shows("W6")
def test_p_8_an_identity_that_was_given_to_two_is_nobodys() -> None:
    given_to = [
        {"namespace": one, "identities": ["spiffe://cluster.local/job/x"]} for one in (VICTIM, NEIGHBOUR)
    ]
    spec = {"meshTLS": {"identity": "spiffe://cluster.local/job/x", "serverName": "x"}}

    def external(namespace: str) -> dict[str, Any]:
        metadata = {"name": "job", "namespace": namespace}
        return {
            "apiVersion": "workload.linkerd.io/v1beta1",
            "kind": "ExternalWorkload",
            "metadata": metadata,
            "spec": spec,
        }

    compiler = alone(external(VICTIM), defaults={"externalIdentities": given_to})
    assert not compiler.refused
    put(compiler, external(NEIGHBOUR))
    assert {name.namespace for name in compiler.refused} == {VICTIM, NEIGHBOUR}


@pytest.mark.promise("P-8")
def test_p_8_who_calls_a_service_is_told_where_its_owner_puts_it() -> None:
    def told(compiler: Compiler) -> bytes:
        return Discovery(compiler.world, compiler.trust_domain, lambda *_: "unknown").of(["m/w:80"], VICTIM)

    compiler = alone()
    before = told(compiler)
    pod = copy.deepcopy(OF_THE_VICTIM[0])
    pod["metadata"] |= {"namespace": NEIGHBOUR, "uid": "u-m"}
    pod["status"]["podIP"] = "10.0.1.6"
    service = copy.deepcopy(OF_THE_VICTIM[1])
    service["metadata"]["namespace"] = NEIGHBOUR
    service["spec"]["clusterIP"] = "10.96.0.8"
    put(compiler, pod, service)
    assert told(compiler) != before
