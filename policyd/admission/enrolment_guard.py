"""Who may take enrolment from a namespace: a policy that the API server itself evaluates (research: WH-09).

Whoever may change a namespace's labels could otherwise have its pods run without their proxies. The policy
asks for a right of its own, and holds with all of policyd down.
"""

from __future__ import annotations

from typing import Any, Final

from policyd.admission.annotations import INJECT, OPT_OUT
from policyd.model.names import POLICYD

NAME: Final = "enrolment.policyd.dev"
RESOURCE: Final = "enrolments"
VERB: Final = "release"
"""The right: `release` of `enrolments.policyd.dev` in the namespace. There are no such objects."""

Object = dict[str, Any]


def _is(label: str, value: str, which: str) -> str:
    labels = f"{which}.metadata.labels"
    return f"has({labels}) && '{label}' in {labels} && {labels}['{label}'] == '{value}'"


def guard() -> list[Object]:
    """Return the policy and its binding."""
    return [_policy(), _binding()]


def _policy() -> Object:
    released = "variables.was_enrolled && !variables.is_enrolled"
    loosened = "variables.is_loose && !variables.was_loose && variables.was_enrolled"
    asked = f"authorizer.group('{POLICYD}').resource('{RESOURCE}').namespace(object.metadata.name)"
    message = (
        f"'namespace ' + object.metadata.name + ': taking its label {INJECT}=enabled, or giving it "
        f"{OPT_OUT}=allowed, needs the right to {VERB} {RESOURCE}.{POLICYD} there'"
    )
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"], "operations": ["UPDATE"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "variables": [
                {"name": "was_enrolled", "expression": _is(INJECT, "enabled", "oldObject")},
                {"name": "is_enrolled", "expression": _is(INJECT, "enabled", "object")},
                {"name": "was_loose", "expression": _is(OPT_OUT, "allowed", "oldObject")},
                {"name": "is_loose", "expression": _is(OPT_OUT, "allowed", "object")},
                {"name": "weaker", "expression": f"({released}) || ({loosened})"},
            ],
            "validations": [
                {
                    "expression": f"!variables.weaker || {asked}.check('{VERB}').allowed()",
                    "message": f"it needs the right to {VERB} {RESOURCE}.{POLICYD}",
                    "messageExpression": message,
                    "reason": "Forbidden",
                }
            ],
            "auditAnnotations": [
                {
                    "key": "released",
                    # What is empty isn't written.
                    "valueExpression": "variables.weaker ? 'by ' + request.userInfo.username : ''",
                }
            ],
        },
    }


def _binding() -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {"policyName": NAME, "validationActions": ["Deny", "Audit"]},
    }
