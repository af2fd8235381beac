"""Which entry of the API server's audit log a change is, and what is said where that isn't known."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policyd.compile.compiler import DEFAULT_TRUST_DOMAIN
from policyd.explain.answer import Explanation, Peer
from policyd.explain.history import LastChange
from policyd.explain.log_search import LogSearch
from policyd.explain.logged import MOST_MATCHES, Logged, later_text, logged_text
from policyd.explain.manifests import Place
from policyd.explain.past import ObjectChange, Past, TableRecord
from policyd.explain.past import Place as PlaceOfChange
from policyd.explain.question import Caller, Question
from policyd.explain.report import Report
from policyd.explain.told import report_of
from policyd.model.names import WorkloadName
from policyd.resources.instants import rfc3339
from policyd.sources.kubernetes.api_audit import writes
from tests.unit.policyd.sources.kubernetes.test_api_audit import READERS, event, lines

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ORIGIN = "policyd.dev/AuthorizationPolicy/shop/readers:spec.requiredAuthenticationRefs"
NAME = "authorizationpolicy.policyd.dev/shop/readers"


def at(seconds: float) -> str:
    return rfc3339(AT + timedelta(seconds=seconds), "milliseconds")


def write(seconds: float = 0.1, user: str = "jane", took: float = 0.1, **changes: Any) -> dict[str, Any]:
    times = {"requestReceivedTimestamp": at(seconds), "stageTimestamp": at(seconds + took)}
    found = {"auditID": f"{user}-{seconds}", "user": {"username": user}, **times}
    return event(**found | changes)


def report(
    history: LastChange | None = None, past: Past | None = None, origin: str | None = ORIGIN
) -> Report:
    names = dict.fromkeys(Explanation.__struct_fields__)
    told: dict[str, Any] = {
        **names,
        "verdict": "deny",
        "reason": "explicit_deny",
        "step": 6,
        "origin": origin,
    }
    told |= {"peer": Peer("10.0.0.7", None), "near_misses": ()}
    decision = Explanation(**told)
    question = Question(80, AT, Caller("10.0.0.7"), {"tcp": {}})
    place = Place(WorkloadName("deployment", "shop", "cart"), None, None)
    return Report(place, question, DEFAULT_TRUST_DOMAIN, decision, "so", {}, (), None, history, past=past)


def looked_up(asked: Report, *logs: Sequence[dict[str, Any]]) -> Report:
    search = LogSearch(asked)
    for log in logs:
        search.read(writes(io.BytesIO(lines(*log)), "audit.log"))
    return search.result()


CHANGED = LastChange("generation 3", rfc3339(AT), "kubectl-patch", operation="Update")


def last(*log: dict[str, Any], changed: LastChange = CHANGED) -> Logged:
    found = looked_up(report(changed), log).history
    assert found is not None
    assert found.logged is not None
    return found.logged


def who(found: Logged) -> str | None:
    return None if found.entry is None else found.entry.user


def test_the_write_of_that_second_is_named() -> None:
    found = last(write(-1, "before"), write(0.1, "jane"), write(1.0, "after"))
    assert (found.matches, who(found)) == (1, "jane")


@pytest.mark.parametrize(
    ("seconds", "took", "expected"),
    [
        (-0.3, 0.2, None),
        (-0.3, 0.3, "jane"),  # it ended in that second
        (-9.0, 30.0, "jane"),  # admission webhooks took their time
        (0.999, 5.0, "jane"),
        (1.0, 0.1, None),
    ],
)
def test_a_request_counts_that_went_on_in_that_second(
    seconds: float, took: float, expected: str | None
) -> None:
    assert who(last(write(seconds, took=took))) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"objectRef": {**READERS, "name": "writers"}},
        {"objectRef": {**READERS, "namespace": "bank"}},
        {"objectRef": {**READERS, "apiGroup": "policy.linkerd.io"}},
        {"objectRef": {**READERS, "resource": "servers"}},
        {"requestURI": "/a?fieldManager=kubectl-edit"},
        {"verb": "delete"},
        {"responseStatus": {"code": 409}},
        {"requestURI": "/a?fieldManager=kubectl-patch&dryRun=All"},
    ],
)
def test_what_is_of_another_object_or_manager_is_not_it(other: dict[str, Any]) -> None:
    assert last(write(0.1, "other", **other)) == Logged(0)


def test_server_side_apply_is_a_patch() -> None:
    applied = LastChange("generation 3", rfc3339(AT), "kubectl-patch", operation="Apply")
    assert who(last(write(0.1, "jane"), changed=applied)) == "jane"
    assert last(write(0.3, "bob", verb="update"), changed=applied) == Logged(0)


def test_of_one_users_several_it_is_the_last_whatever_the_order_of_files() -> None:
    found = looked_up(report(CHANGED), [write(0.5), write(0.3)], [write(0.4), write(0.5)]).history
    assert found is not None
    assert found.logged is not None
    assert found.logged.matches == 3, "rotated files may tell the same twice"
    assert found.logged.entry is not None
    assert found.logged.entry.audit_id == "jane-0.5"
    assert ", the last of 3 that match" in logged_text(found.logged)


def test_of_several_users_none_is_guessed() -> None:
    found = last(write(0.1, "jane"), write(0.2, "bob"), write(0.3, "jane"))
    assert found == Logged(3, None, ("jane", "bob"))
    assert logged_text(found) == "3 entries of the API server's log match, by jane, bob"
    as_bob = write(0.2, "jane", impersonatedUser={"username": "bob"}, auditID="x")
    assert last(write(0.1, "bob"), as_bob).users == ("bob", "bob (impersonated by jane)")


def test_of_several_managers_of_one_second_none_is_guessed() -> None:
    """managedFields give both the same time."""
    other: dict[str, Any] = {"requestURI": "/a?fieldManager=kubectl-edit"}
    found = last(write(0.1, "jane"), write(0.2, "bob", **other))
    assert found == Logged(2, None, ("jane", "bob"))
    assert who(last(write(0.1, "jane"), write(0.2, "jane", **other))) == "jane"


def test_what_is_kept_is_bounded_and_then_none_is_named() -> None:
    found = last(*(write(each / 1000) for each in range(MOST_MATCHES + 1)))
    assert (found.matches, found.entry, found.users) == (MOST_MATCHES, None, ("jane",))


def past(*changes: ObjectChange) -> Past:
    return Past(TableRecord("sha256:b", at(0), changes), TableRecord("sha256:a", at(-900)))


def told(change: ObjectChange, *log: dict[str, Any]) -> Logged | None:
    found = looked_up(report(None, past(change)), log).past
    assert found is not None
    assert found.denied_by is not None
    return found.denied_by.changes[0].logged


def test_who_deleted_it_is_known_to_the_log_alone() -> None:
    gone = ObjectChange("removed", NAME)
    log = (write(-20, "early"), write(-0.3, "bob", verb="delete"), write(9, "late", verb="create"))
    found = told(gone, *log)
    assert found is not None
    assert (found.matches, who(found)) == (1, "bob")
    assert logged_text(found).startswith("delete by bob at 2026-11-21T11:59:59.700Z, auditID bob--0.3, from ")
    # Changed to say nothing here any more, it is gone from the table, too.
    assert who(told(gone, write(-0.3, "jane")) or Logged(0)) == "jane"
    assert told(gone, write(-0.3, "jane"), write(-0.2, "bob", verb="delete")) == Logged(
        2, None, ("jane", "bob")
    )


def test_a_change_with_a_time_is_that_of_its_object_then() -> None:
    place = PlaceOfChange("spec", "generation 4", rfc3339(AT - timedelta(seconds=30)), "kubectl-patch")
    change = ObjectChange("updated", NAME, (place, place))
    found = told(change, write(-29.5, "jane"), write(-10, "bob"))
    assert who(found or Logged(0)) == "jane"


def test_a_change_without_a_time_was_shortly_before_its_table() -> None:
    place = PlaceOfChange("metadata.annotations", "")
    namespace = {"resource": "namespaces", "namespace": "shop", "name": "shop"}
    change = ObjectChange("updated", "namespace/shop", (place,))
    log = [write(each, f"user{each}", objectRef=namespace) for each in (-40, -0.5, 40)]
    assert who(told(change, *log) or Logged(0)) == "user-0.5"


@pytest.mark.parametrize(
    "asked",
    [
        report(),
        report(LastChange("policies/web.yaml:3:1", rfc3339(AT), "Ada", "abc")),
        report(CHANGED, origin=None),
        report(None, past(ObjectChange("removed", NAME, (PlaceOfChange("", "web.yaml", rfc3339(AT)),)))),
        report(None, past(ObjectChange("updated", "an object that you may not read"))),
        report(None, Past(None)),
    ],
)
def test_files_and_what_is_not_told_are_not_looked_up(asked: Report) -> None:
    search = LogSearch(asked)
    assert not search.is_needed
    assert search.result() == asked


def test_the_answer_in_json_has_the_same() -> None:
    made = looked_up(
        report(CHANGED, past(ObjectChange("removed", NAME))), [write(0.1), write(0.2, verb="delete")]
    )
    data = json.loads(json.dumps(made.data()))
    history = data["history"]
    assert history["logged"]["entry"] == {
        "auditID": "jane-0.1",
        "verb": "patch",
        "time": "2026-11-21T12:00:00.100Z",
        "user": "jane",
        "impersonatedBy": None,
        "sourceIPs": ["10.0.0.7"],
        "userAgent": "kubectl/v1.34.4 (linux/amd64) kubernetes/f6c3224",
    }
    (change,) = history["past"]["deniedBy"]["changes"]
    assert (change["logged"]["matches"], change["logged"]["entry"]["verb"]) == (2, "delete")
    again = report_of(data, DEFAULT_TRUST_DOMAIN)
    assert (again.history, again.past) == (made.history, made.past)


def test_later_writes_are_told_which_managed_fields_are_silent_about() -> None:
    found = last(write(-9, "before"), write(0.9, "jane", took=3), write(2, "ci"), write(400, "bob"))
    assert (who(found), found.later and found.later.count) == ("jane", 2)
    assert found.later is not None
    assert later_text(found.later).startswith(
        "2 writes that changed nothing or took no field; the last: patch by bob at 2026-11-21T12:06:40.000Z"
    )
    assert last(write(0.1)).later is None
    many = last(*(write(2 + each, f"user{each}") for each in range(MOST_MATCHES + 9)))
    assert many.later is not None
    assert (many.matches, many.later.last.user) == (0, f"user{MOST_MATCHES + 8}")
    assert later_text(many.later).startswith(f"at least {MOST_MATCHES} writes ")


def test_who_only_removed_something_leaves_the_time_of_who_wrote_before() -> None:
    place = PlaceOfChange("spec", "generation 4", rfc3339(AT - timedelta(days=3)), "kubectl-create")
    change = ObjectChange("updated", NAME, (place,))
    assert who(told(change, write(-0.5, "bob")) or Logged(0)) == "bob"
    days = -3 * 86400 + 0.1
    made = write(days, "jane", requestURI="/a?fieldManager=kubectl-create", verb="create")
    assert told(change, made, write(-0.5, "bob")) == Logged(2, None, ("jane", "bob"))
    assert who(told(change, made) or Logged(0)) == "jane", "policyd was away"


def test_addresses_that_a_client_says_are_told_apart() -> None:
    found = last(write(sourceIPs=["1.2.3.4", "10.0.0.7"]))
    assert "from 10.0.0.7 (which says: for 1.2.3.4), agent " in logged_text(found)
    assert "from an unknown address" in logged_text(last(write(sourceIPs=None, userAgent="")))
