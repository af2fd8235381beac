"""Questions to an API server that several checks share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubeapi.client import Client, JsonObject, Request
from kubeapi.errors import ApiError
from kubeapi.path import ResourcePath
from policyd.admission.injection import PROXY
from policyd.admission.unmeshed import FINISHED
from policyd.errors import SourceError
from policyd.install.choices import checked
from policyd.install.names import STORED, STORED_KEY
from policyd.install.settings import InstallSettings

NAMESPACES = ResourcePath("", "v1", "namespaces")
CRDS = ResourcePath("apiextensions.k8s.io", "v1", "customresourcedefinitions")
PODS = ResourcePath("", "v1", "pods")
NODES = ResourcePath("", "v1", "nodes")
MOST_NAMED = 5
"""How many of a kind a line names."""
_REVIEWS = ResourcePath("authorization.k8s.io", "v1", "selfsubjectaccessreviews")


async def find(client: Client, path: ResourcePath, name: str) -> JsonObject | None:
    """Return an object; None where it, or its kind, isn't there. Raises ApiError."""
    try:
        return (await client.get(path, name)).json()
    except ApiError as error:
        if error.not_found:
            return None
        raise


async def items(
    client: Client, path: ResourcePath, params: Mapping[str, str] | None = None
) -> AsyncIterator[JsonObject]:
    """Yield all objects of a kind, a page at a time. Raises ApiError."""
    async for page in client.pages(path, params):
        for item in page.json().get("items") or ():
            yield item


async def is_helms(client: Client, namespace: str) -> bool:
    """Whether Helm installed what is in a namespace: it then owns all of it. Raises ApiError."""
    found = await find(client, ResourcePath("", "v1", "configmaps", namespace), STORED)
    labels = ((found or {}).get("metadata") or {}).get("labels") or {}
    return labels.get("app.kubernetes.io/managed-by") == "Helm"


async def installed(client: Client, namespace: str) -> InstallSettings | None:
    """Return the settings of the install in a namespace; None where there is none.

    Raises ApiError, and SourceError for settings that this version can't read.
    """
    found = await find(client, ResourcePath("", "v1", "configmaps", namespace), STORED)
    if found is None:
        return None
    return checked(json.loads((found.get("data") or {}).get(STORED_KEY, "{}")))


async def trust_domain(client: Client) -> str | None:
    """Return the trust domain of the cluster's install, wherever that is; None where nobody can say.

    Raises AccessError.
    """
    maps = ResourcePath("", "v1", "configmaps")
    try:
        stored = [each async for each in items(client, maps, {"fieldSelector": f"metadata.name={STORED}"})]
        domains = {
            checked(json.loads(each["data"][STORED_KEY])).trust_domain
            for each in stored
            if STORED_KEY in (each.get("data") or {})
        }
    except (ApiError, SourceError, ValueError):
        return None
    return domains.pop() if len(domains) == 1 else None


async def allowed(client: Client, verb: str, path: ResourcePath) -> bool:
    """Whether we may do this, as the API server says. Raises ApiError."""
    attributes = {"group": path.group, "resource": path.plural, "verb": verb}
    if path.namespace is not None:
        attributes["namespace"] = path.namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = (await client.create(_REVIEWS, review)).json()
    return bool((answer.get("status") or {}).get("allowed"))


async def server_time(client: Client) -> datetime:
    """Return the API server's clock, to the second: what it writes on an object that it then doesn't store.

    Raises ApiError.
    """
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "policyd-check-"}}
    request = Request("POST", NAMESPACES.url(), {"dryRun": "All"}, json.dumps(body).encode())
    written = (await client.send(request)).json()["metadata"]["creationTimestamp"]
    return datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def has_proxy(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has a policyd-proxy, and is to go on with it."""
    ends = "deletionTimestamp" in pod["metadata"] or (pod.get("status") or {}).get("phase") in FINISHED
    return not ends and proxy_of(pod) is not None


def proxy_of(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the container of a pod's proxy."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return next((container for container in containers if container.get("name") == PROXY), None)


def some(names: Iterable[str]) -> str:
    """Return the first few of many names."""
    known = list(names)
    return ", ".join([*known[:MOST_NAMED], *(["…"] if len(known) > MOST_NAMED else [])])
