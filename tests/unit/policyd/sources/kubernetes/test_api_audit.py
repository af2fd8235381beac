"""What is read of the API server's audit log, and what isn't."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from policyd.errors import SourceError
from policyd.sources.kubernetes import api_audit
from policyd.sources.kubernetes.api_audit import MOST_ADDRESSES, MOST_TEXT, Write, writes

READERS = {
    "resource": "authorizationpolicies",
    "namespace": "shop",
    "name": "readers",
    "apiGroup": "policyd.dev",
    "apiVersion": "v1alpha1",
}
PATH = "/apis/policyd.dev/v1alpha1/namespaces/shop/authorizationpolicies/readers"


def event(**changes: Any) -> dict[str, Any]:
    """An Event as the API server writes it."""
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "7d0c2a38-0000-4000-8000-000000000001",
        "stage": "ResponseComplete",
        "requestURI": f"{PATH}?fieldManager=kubectl-patch",
        "verb": "patch",
        "user": {"username": "jane", "groups": ["developers", "system:authenticated"]},
        "sourceIPs": ["10.0.0.7"],
        "userAgent": "kubectl/v1.34.4 (linux/amd64) kubernetes/f6c3224",
        "objectRef": READERS,
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-11-21T12:00:00.123456Z",
        "stageTimestamp": "2026-11-21T12:00:00.223456Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
        **changes,
    }


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in events)


def read(log: bytes) -> list[Write]:
    return list(writes(io.BytesIO(log), "audit.log"))


def test_a_write_says_who_from_where_and_when() -> None:
    [found] = read(lines(event()))
    assert found.key.text == "authorizationpolicy.policyd.dev/shop/readers"
    assert found.manager == "kubectl-patch"
    assert (found.entry.user, found.entry.impersonated_by, found.entry.verb) == ("jane", None, "patch")
    assert (found.entry.source_ips, found.entry.time) == (("10.0.0.7",), "2026-11-21T12:00:00.123Z")
    assert found.entry.audit_id.startswith("7d0c2a38")
    assert (found.entry.user_agent or "").startswith("kubectl/v1.34.4")


def test_who_is_impersonated_is_the_user_and_who_does_it_stands_beside() -> None:
    [found] = read(lines(event(impersonatedUser={"username": "bob", "groups": []})))
    assert (found.entry.user, found.entry.impersonated_by) == ("bob", "jane")


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "RequestReceived"},
        {"stage": "ResponseStarted"},
        {"stage": "Panic"},
        {"verb": "get"},
        {"verb": "deletecollection"},
        {"responseStatus": {"code": 403}},
        {"responseStatus": None},
        {"objectRef": None},
        {"objectRef": {**READERS, "subresource": "status"}},
        {"objectRef": {**READERS, "resource": "secrets"}},
        {"objectRef": {**READERS, "apiGroup": "example.org"}},
        {"objectRef": {**READERS, "name": ""}},
        {"requestURI": f"{PATH}?fieldManager=kubectl&dryRun=All"},
        {"verb": "delete", "requestObject": {"kind": "DeleteOptions", "dryRun": ["All"]}},
        {"stageTimestamp": None},
    ],
)
def test_what_is_no_write_that_succeeded_is_passed_over(changes: dict[str, Any]) -> None:
    assert read(lines(event(**changes))) == []


@pytest.mark.parametrize(
    ("changes", "manager"),
    [
        ({}, "kubectl-patch"),
        ({"requestURI": PATH}, "kubectl"),
        ({"requestURI": PATH, "userAgent": "Hel\u202em/v3"}, "Helm"),
        ({"requestURI": PATH, "userAgent": "é" * 100}, "é" * 64),
        ({"requestURI": f"{PATH}?fieldManager=a%20b%2Fc"}, "a b/c"),
        ({"requestURI": PATH, "userAgent": ""}, ""),
    ],
)
def test_the_field_manager_is_found_as_the_api_server_does(changes: dict[str, Any], manager: str) -> None:
    assert [each.manager for each in read(lines(event(**changes)))] == [manager]


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ({"resource": "namespaces", "namespace": "shop", "name": "shop"}, "namespace/shop"),
        (
            {"resource": "meshdefaults", "apiGroup": "policyd.dev", "name": "default"},
            "meshdefaults.policyd.dev/default",
        ),
        (
            {
                "resource": "servers",
                "apiGroup": "policy.linkerd.io",
                "apiVersion": "v1beta3",
                "namespace": "a",
                "name": "b",
            },
            "server.policy.linkerd.io/a/b",
        ),
        (
            {
                "resource": "httproutes",
                "apiGroup": "gateway.networking.k8s.io",
                "namespace": "a",
                "name": "b",
            },
            "httproute.gateway.networking.k8s.io/a/b",
        ),
        (
            {"resource": "deployments", "apiGroup": "apps", "namespace": "a", "name": "b"},
            "deployment.apps/a/b",
        ),
    ],
)
def test_objects_are_named_as_tables_name_them(ref: dict[str, str], expected: str) -> None:
    assert [each.key.text for each in read(lines(event(objectRef=ref)))] == [expected]


def test_what_clients_say_is_bounded() -> None:
    long = event(
        userAgent="a" * 5000,
        user={"username": "u" * 5000},
        sourceIPs=[f"1.1.1.{each}" for each in range(100)] + ["10.0.0.7"],
    )
    [found] = read(lines(long))
    assert len(found.entry.user) == len(found.entry.user_agent or "") == MOST_TEXT + 1
    assert found.entry.user.endswith("…")
    assert len(found.entry.source_ips) == MOST_ADDRESSES
    assert found.entry.source_ips[-1] == "10.0.0.7", "the connection's own"


@pytest.mark.parametrize("size", range(1, len(lines(event())) - 1, 41))
def test_a_torn_last_line_is_still_being_written(size: int) -> None:
    assert len(read(lines(event()) + lines(event())[:size])) == 1


def test_a_last_line_without_its_end_counts() -> None:
    assert len(read(lines(event())[:-1])) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"not json",
        b'{"kind":"Event"',  # torn, but in the middle
        b'{"kind":"Event","apiVersion":"audit.k8s.io/v1beta1"}\n',
        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}\n',
        b'{"event":"denial","id":"019ab1c2"}',
        b"[]\n",
        b"\x1f\x8b\x08\x00zipped\n",
        b'{"kind":"\xff"}\n',
        b'{"kind":' + b"[" * 100_000 + b"\n",
    ],
)
def test_any_other_line_is_an_error_that_names_the_line(line: bytes) -> None:
    following = b"" if not line.endswith(b'"Event"') else b"\n" + lines(event())
    with pytest.raises(SourceError, match=r"^audit\.log:2: expected an Event of audit\.k8s\.io/v1") as caught:
        read(lines(event()) + line + following)
    assert str(caught.value).isprintable()


def test_au_05_an_error_says_nothing_that_a_terminal_would_obey() -> None:
    with pytest.raises(SourceError) as caught:
        read(lines(event(kind="\x9b31m\u202e" * 1000)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_a_line_longer_than_any_writes_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_audit, "MOST_LINE", 2000)
    monkeypatch.setattr(api_audit, "_CHUNK", 64)
    listing = event(verb="list", responseObject={"items": ["a" * 100] * 100})
    assert len(read(lines(event(), listing, event()))) == 2
    with pytest.raises(SourceError, match=r"^audit\.log:2: .*longer than 2000 bytes"):
        read(lines(event()) + b"{" + b"a" * 5000)
