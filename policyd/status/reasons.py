"""The closed list of reasons of conditions and Events: `docs/reference/conditions.md` is made from it.

Each code of a finding has one, so that what `policyctl check` prints and what a status says is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policyd.model.finding import Finding

ConditionType = Literal["Accepted", "Enforced", "Warning"]
ACCEPTED: ConditionType = "Accepted"
ENFORCED: ConditionType = "Enforced"
WARNING: ConditionType = "Warning"


@dataclass(frozen=True, slots=True)
class Reason:
    """A word for programs, and what it means. `idle`: the object has no effect, though nothing is wrong."""

    name: str
    means: str
    idle: bool = False


FINDINGS: dict[str, Reason] = {
    "undecodable": Reason("Undecodable", "it is no JSON that can be decoded; only its name is known"),
    "unknown-version": Reason("UnknownVersion", "its apiVersion is none of those that are read"),
    "unknown-kind": Reason("UnknownKind", "its group has no such kind"),
    "bad-metadata": Reason("BadMetadata", "a name, a namespace, a label or an annotation can't be read"),
    "not-supported": Reason("NotSupported", "its kind isn't built yet; a RegoPolicy refuses meanwhile"),
    "unknown-field": Reason("UnknownField", "a field isn't known; the message names those that are"),
    "missing-field": Reason("MissingField", "a field that must be there isn't"),
    "empty-value": Reason("EmptyValue", "a field is there and has nothing in it"),
    "wrong-type": Reason("WrongType", "a value is of another type than expected"),
    "bad-value": Reason("BadValue", "a value is out of range, or not of the form expected"),
    "too-many": Reason("TooMany", "a list has more items than are read"),
    "too-many-problems": Reason("TooManyProblems", "so much is wrong that only the first of it is told"),
    "unsupported-filter": Reason("UnsupportedFilter", "a route's filter isn't built: its rule refuses"),
    "ParentUnreadable": Reason("ParentUnreadable", "a parentRef of the route can't be read"),
    "AuthenticationUnreadable": Reason("AuthenticationUnreadable", "what it refers to can't be read"),
    "TargetNotFound": Reason("TargetNotFound", "what it refers to isn't there"),
    "RefNotPermitted": Reason("RefNotPermitted", "it refers to another namespace where that can't be"),
    "PortConflict": Reason("PortConflict", "an older Server owns a port; this one has no effect on it"),
    "PortNotDeclared": Reason("PortNotDeclared", "no workload that it selects declares the port"),
    "PathModeContradicts": Reason(
        "PathModeContradicts", "pathMode opaque, and a route or policy reads paths: all is refused"
    ),
    "NothingIsRead": Reason("NothingIsRead", "it would have to read what an opaque or TLS port carries"),
    "TooManyConditions": Reason("TooManyConditions", "it lies beyond the policies with a `when` of a Server"),
    "IdentityNotOwn": Reason("IdentityNotOwn", "an ExternalWorkload declares what isn't its namespace's"),
    "IdentityDeclaredTwice": Reason(
        "IdentityDeclaredTwice", "several ExternalWorkloads declare one identity"
    ),
    "TableRefused": Reason("TableRefused", "the engine refused the rows: the workloads refuse everything"),
    "UnknownAnnotationValue": Reason("UnknownAnnotationValue", "an annotation's value isn't known"),
    "GrantExpired": Reason("GrantExpired", "its validUntil has passed", idle=True),
    "SelectsNothing": Reason("SelectsNothing", "its selector selects nothing of its namespace", idle=True),
    "NoEffect": Reason("NoEffect", "its target hangs on nothing that takes it", idle=True),
    "no-effect": Reason("NoEffect", "only the MeshDefaults named `default` counts", idle=True),
    "RequireWithoutEffect": Reason("RequireWithoutEffect", "it requires what everybody meets", idle=True),
    "not-enforced": Reason("NotEnforced", "its kind is known, and nothing of it is enforced yet", idle=True),
    "PassesOver": Reason("PassesOver", "it has no effect on opaque or TLS ports, which the message names"),
    "DenyMeetsAnonymous": Reason("DenyMeetsAnonymous", "it also refuses clients that prove no identity"),
    "WiderThanDefault": Reason("WiderThanDefault", "it lets in more than the workload's default"),
    "TrustsOtherNamespace": Reason(
        "TrustsOtherNamespace", "another namespace's authors decide whom it means"
    ),
    "ManyConditions": Reason("ManyConditions", "it comes near the bound on policies with a `when`"),
    "ProbeNotExempt": Reason("ProbeNotExempt", "a declared probe is decided on like any request"),
}
"""By the code of a finding; what stands earlier comes first where an object has several."""

WITHOUT_OBJECT = frozenset(
    {"source-behind", "invalid-yaml", "not-a-manifest", "unreadable-file", "duplicate-object"}
)
"""Codes of findings about files and sources: of these no object of a cluster has any."""

DOING_WELL = Reason("Accepted", "it can be read, and does what it says")
ALL_ENFORCE = Reason("Enforced", "every proxy that runs for it has acknowledged the tables with it")
PENDING = Reason("Pending", "a connected proxy hasn't acknowledged the newest table yet, or has refused it")
NOT_CONNECTED = Reason("NotConnected", "a proxy that runs isn't connected: it goes on with the table it has")
WITHOUT_PROXY = Reason("WithoutProxy", "a pod has no proxy, so nothing is enforced there")
NO_WORKLOAD = Reason("NoWorkload", "it concerns no workload that runs")
NO_PARENT = Reason("NoMatchingParent", "the Server that a route's parentRef names isn't there")
REFS_RESOLVED = Reason("ResolvedRefs", "no reference of the route is forbidden")
DENIED = Reason("Denied", "requests were refused; the note has a decision's id for `policyctl explain`")

OF_ACCEPTED = (DOING_WELL,)
OF_ENFORCED = (ALL_ENFORCE, PENDING, NOT_CONNECTED, WITHOUT_PROXY, NO_WORKLOAD)
OF_ROUTES = (NO_PARENT, REFS_RESOLVED)
OF_EVENTS = (DENIED,)
UNLISTED = Reason("Unlisted", "a finding of another version of policyd; its message says what")
"""Stands for a code that isn't listed. A test sees to it that there is none."""

_RANK = {code: rank for rank, code in enumerate(FINDINGS)}


def reason_of(finding: Finding) -> Reason:
    """Return the reason that a finding's code means."""
    return FINDINGS.get(finding.code, UNLISTED)


def ends_acceptance(finding: Finding) -> bool:
    """Whether the object doesn't do what it says; else the finding is a warning."""
    return finding.severity == "error" or reason_of(finding).idle


def rank(finding: Finding) -> tuple[bool, int, str, str]:
    """Return what sorts the findings of one object, always alike: what is wrong before what is only idle."""
    place = _RANK.get(finding.code, len(_RANK))
    return finding.severity != "error", place, finding.field, finding.message


def page_rows() -> list[tuple[str, str, str]]:
    """Return (reason, where it stands, meaning), as the reference page has them."""
    rows = [("Accepted=True", DOING_WELL)]
    rows += [(_where(reason), reason) for reason in FINDINGS.values()]
    rows += [("Enforced=True" if each is ALL_ENFORCE else "Enforced=False", each) for each in OF_ENFORCED]
    rows += [("routes", each) for each in OF_ROUTES]
    rows += [("Events", each) for each in OF_EVENTS]
    return [(reason.name, where, reason.means) for where, reason in rows]


_EVENTS_ONLY = frozenset(
    {
        "IdentityNotOwn",
        "IdentityDeclaredTwice",
        "UnknownAnnotationValue",
        "NotEnforced",
        "ProbeNotExempt",
        "UnknownKind",
    }
)
"""Of kinds that have no status of ours."""
_WARNINGS = frozenset(
    {"PassesOver", "DenyMeetsAnonymous", "WiderThanDefault", "TrustsOtherNamespace", "ManyConditions"}
)


def _where(reason: Reason) -> str:
    if reason.name in _EVENTS_ONLY:
        return "Events"
    if reason.name in _WARNINGS:
        return "Warning=True"
    return "Accepted=False, Warning=True" if reason.name == "PortNotDeclared" else "Accepted=False"


def table() -> str:
    """Return the list as a table in Markdown, which docs/reference/conditions.md has."""
    rows = ["| reason | where | means |", "|---|---|---|"]
    rows += [f"| `{name}` | {where} | {means} |" for name, where, means in dict.fromkeys(page_rows())]
    return "\n".join(rows) + "\n"
