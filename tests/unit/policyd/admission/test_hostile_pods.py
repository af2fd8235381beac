"""Pods that nobody would write: whatever they hold, there is an answer, and a patch that applies."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.inject import Injected, Left, inject, uninject
from policyd.admission.injection import Injection
from policyd.admission.review import Cause
from policyd.admission.validate import validate
from tests.unit.policyd.admission.test_inject import applied

ENROLLED = NamespaceFacts("books", {"policyd.dev/inject": "enabled"})
SETTINGS = Injection()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["app", "policyd-proxy", "policyd-redirect", "policyd-state", "policyd-token", "policyd-validate", "x"]
)


def sometimes(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with the field, or without."""
    return st.just({}) | st.fixed_dictionaries({field: values})


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for each in found for key, value in each.items()})


CONTAINERS = merged(
    st.fixed_dictionaries({"name": NAMES}),
    sometimes("image", st.text(max_size=8) | JUNK),
    sometimes("securityContext", st.sampled_from([{"runAsUser": 2102}, {"privileged": True}, {}]) | JUNK),
    sometimes("volumeMounts", st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2) | JUNK),
    sometimes("ports", st.lists(st.fixed_dictionaries({"containerPort": st.integers(0, 70_000)})) | JUNK),
    sometimes("livenessProbe", JUNK),
)
LISTS = st.lists(CONTAINERS, max_size=3) | JUNK
ANNOTATIONS = st.dictionaries(
    st.sampled_from(["policyd.dev/inject", "policyd.dev/proxy-memory-limit", "a/b~c", "config.linkerd.io/x"])
    | st.text(max_size=12),
    st.sampled_from(["enabled", "disabled", "1Gi"]) | st.text(max_size=8),
    max_size=3,
)
PODS = merged(
    st.fixed_dictionaries(
        {
            "spec": merged(
                st.fixed_dictionaries({"containers": LISTS}),
                sometimes("initContainers", LISTS),
                sometimes("volumes", st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=3) | JUNK),
                sometimes("hostNetwork", st.booleans()),
            )
        }
    ),
    sometimes("metadata", sometimes("annotations", ANNOTATIONS | JUNK) | JUNK),
)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(each) for each in value if each is not None] if isinstance(value, list) else value


@settings(max_examples=400, deadline=None)
@given(PODS | JUNK)
def test_wh_01_whatever_a_pod_is_there_is_an_answer(pod: Any) -> None:
    before = copy.deepcopy(pod)
    found = inject(pod, ENROLLED, SETTINGS)
    assert pod == before, "what was given is changed"
    if isinstance(found, Injected):
        assert applied(without_nulls(pod), found.operations) == found.pod
        again = inject(found.pod, ENROLLED, SETTINGS)
        assert isinstance(again, Injected)
        assert not again.operations
        anew = inject(uninject(found.pod), ENROLLED, SETTINGS)
        assert isinstance(anew, Injected)
        assert sorted(each["name"] for each in anew.pod["spec"]["volumes"]) == sorted(
            each["name"] for each in found.pod["spec"]["volumes"]
        )
        json.dumps(found.operations)
    elif isinstance(found, Left):
        assert "mirror" in found.reason
    else:
        assert all(Cause(each.field, each.message).message for each in found.problems)
        assert all(len(each.text) < 1000 and each.text.isprintable() for each in found.problems)


KINDS = st.sampled_from(
    [
        "Server",
        "AuthorizationPolicy",
        "MeshTLSAuthentication",
        "NetworkAuthentication",
        "MeshDefaults",
        "Nobody",
    ]
)


@settings(max_examples=300, deadline=None)
@given(KINDS, st.sampled_from(["policyd.dev/v1alpha1", "policy.linkerd.io/v1beta1"]), JUNK, JUNK)
def test_ct_04_whatever_an_object_is_there_is_a_judgement(
    kind: str, version: str, metadata: Any, spec: Any
) -> None:
    judged = validate({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    assert judged.errors or kind == "Nobody" or isinstance(spec, dict) or kind == "MeshDefaults"
