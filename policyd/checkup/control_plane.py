"""`policyctl check` of a cluster with policyd in it: whether what was installed is there and works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.audit_api.names import API_SERVICE
from policyd.checkup import certificates, skew, workloads
from policyd.checkup.check import OK, Category, Check, Result, error, warning
from policyd.checkup.preflight import api_server
from policyd.checkup.reading import CRDS, find, installed
from policyd.install.names import COMPONENTS
from policyd.install.objects import custom_resource_definitions
from policyd.install.settings import VERSION


def categories(namespace: str, clock: Callable[[], datetime] | None = None) -> tuple[Category, ...]:
    """Return the checks of an install in a namespace."""
    now = clock or (lambda: datetime.now(UTC))
    return (
        api_server(clock),
        Category(
            "control plane",
            (
                Check(
                    f"policyd is installed in {namespace}", lambda c: _installed(c, namespace), needed=True
                ),
                Check("its CRDs are served", _crds),
                *skew.install_checks(namespace),
                Check("its images are this policyctl's version", lambda c: _same_version(c, namespace)),
                *(Check(f"{name} is available", partial(_available, namespace, name)) for name in COMPONENTS),
                Check("the API server can ask for denials", _audit_api),
            ),
        ),
        certificates.category(namespace, now()),
        workloads.category(namespace),
    )


async def _installed(client: Client, namespace: str) -> Result:
    if await installed(client, namespace) is None:
        advice = "`policyctl install | kubectl apply -f -`, or name the namespace with -n"
        return error(f"no ConfigMap policyd-install in {namespace}", advice)
    return OK


async def _crds(client: Client) -> Result:
    names = [crd["metadata"]["name"] for crd in custom_resource_definitions()]
    found = await asyncio.gather(*(find(client, CRDS, name) for name in names))
    missing = [name for name, crd in zip(names, found, strict=True) if not _is_served(crd)]
    advice = "`policyctl install --crds | kubectl apply --server-side -f -`"
    return error(f"not {', '.join(missing)}", advice) if missing else OK


def _is_served(crd: dict[str, object] | None) -> bool:
    status = (crd or {}).get("status")
    conditions = status.get("conditions") or () if isinstance(status, dict) else ()
    return any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions)


async def _same_version(client: Client, namespace: str) -> Result:
    settings = await installed(client, namespace)
    tag = settings.images.tag if settings else VERSION
    if tag == VERSION:
        return OK
    return warning(f"they are {tag}, policyctl is {VERSION}", "`policyctl upgrade`, or another policyctl")


async def _available(namespace: str, name: str, client: Client) -> Result:
    found = await find(client, ResourcePath("apps", "v1", "deployments", namespace), name)
    if found is None:
        return error("there is no such Deployment", "apply what `policyctl upgrade` prints")
    wanted = (found.get("spec") or {}).get("replicas", 1)
    available = (found.get("status") or {}).get("availableReplicas", 0)
    if available >= wanted:
        return OK
    told = f"{available} of {wanted} replicas"
    advice = f"`kubectl -n {namespace} describe pods -l app.kubernetes.io/component={name}`"
    return warning(told, advice) if available else error(told, advice)


async def _audit_api(client: Client) -> Result:
    """Also of use to others: an APIService that nobody answers for keeps namespaces from being deleted."""
    found = await find(client, ResourcePath("apiregistration.k8s.io", "v1", "apiservices"), API_SERVICE)
    if found is None:
        return error(f"there is no APIService {API_SERVICE}", "apply what `policyctl upgrade` prints")
    conditions = (found.get("status") or {}).get("conditions") or ()
    available: dict[str, object] = next((each for each in conditions if each.get("type") == "Available"), {})
    if available.get("status") == "True":
        return OK
    told = str(available.get("message") or "nobody has tried yet")
    return error(told, "policyd answers for it: does it run, and may the API server reach it on port 9446?")
