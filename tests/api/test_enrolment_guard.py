"""Taking enrolment from a namespace needs a right of its own, with all of policyd down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.admission.enrolment_guard import NAME, RESOURCE, VERB, guard
from tests.api import objects
from tests.api.injector_process import until
from tests.api.rig import ApiServer, RigError

LABEL, OPT_OUT = "policyd.dev/inject", "policyd.dev/opt-out"


@pytest.fixture(scope="module", autouse=True)
def guarded(api: ApiServer) -> Iterator[None]:
    api.apply(*guard())
    probe = objects.create_namespace(api, labels={LABEL: "enabled"})
    nobody = tenant(api, probe)
    # It holds some moments after it was stored.
    until(lambda: not labelled(api, probe, nobody, f"{LABEL}-"))
    yield
    for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        api.request("DELETE", f"/apis/admissionregistration.k8s.io/v1/{plural}/{NAME}")


def tenant(api: ApiServer, namespace: str, *more: dict[str, object]) -> Path:
    """Somebody who may change namespaces, and has these rights besides."""
    account = objects.unique("tenant")
    objects.create_account(api, namespace, account)
    may = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch", "update"]}
    objects.grant(api, namespace, account, may, *more)
    token = objects.account_token(api, namespace, account)
    return api.write_kubeconfig(f"{namespace}-{account}", token)


def labelled(api: ApiServer, namespace: str, kubeconfig: Path, *labels: str) -> bool:
    """Change a namespace's labels; put back what was, where that went well."""
    before = api.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["labels"]
    try:
        api.kubectl("label", "--overwrite", "namespace", namespace, *labels, kubeconfig=kubeconfig)
    except RigError as error:
        if f"needs the right to {VERB} {RESOURCE}.policyd.dev" not in str(error):
            raise
        return False
    after = api.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["labels"]
    back = {**dict.fromkeys(after), **before}
    merge = {"Content-Type": "application/merge-patch+json"}
    api.request("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": back}}, **merge)
    return True


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ([f"{LABEL}-"], False),
        ([f"{LABEL}=disabled"], False),
        ([f"{OPT_OUT}=allowed"], False),
        ([f"{OPT_OUT}=no"], True),
        (["team=books"], True),
        ([f"{LABEL}=enabled"], True),
    ],
    ids=json.dumps,
)
def test_wh_09_enrolment_is_released_only_by_who_may(
    api: ApiServer, labels: list[str], allowed: bool
) -> None:
    namespace = objects.create_namespace(api, labels={LABEL: "enabled"})
    assert labelled(api, namespace, tenant(api, namespace), *labels) is allowed
    release: dict[str, object] = {"apiGroups": ["policyd.dev"], "resources": [RESOURCE], "verbs": [VERB]}
    assert labelled(api, namespace, tenant(api, namespace, release), *labels)


def test_wh_09_what_is_not_enrolled_is_nobodys_business(api: ApiServer, namespace: str) -> None:
    somebody = tenant(api, namespace)
    assert labelled(api, namespace, somebody, f"{OPT_OUT}=allowed")
    assert labelled(api, namespace, somebody, f"{LABEL}=enabled")
