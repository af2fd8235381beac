"""`policyctl check --pre`: whether policyd can be installed here, asked before anything is changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.checkup.check import OK, Category, Check, Result, error, warning
from policyd.checkup.reading import CRDS, NAMESPACES, PODS, allowed, find, installed, items, server_time
from policyd.checkup.skew import cluster_checks
from policyd.install.issuer import IssuerMaterial
from policyd.install.objects import custom_resource_definitions, render
from policyd.install.settings import InstallSettings
from policyd.model.names import GATEWAY

LEAST_VERSION = (1, 30)
"""Since 1.30 ValidatingAdmissionPolicy v1 is served (KEP-3488); native sidecars are on since 1.29."""
MOST_SKEW_SECONDS = 60.0
"""Tokens may be this far ahead (identity's rule); certificates are backdated by five minutes."""
NOTABLE_SKEW_SECONDS = 5.0
ROUTE_CRDS = ("httproutes", "grpcroutes", "referencegrants")
_ODD_PLURALS = {"MeshDefaults": "meshdefaults"}


def categories(namespace: str, clock: Callable[[], datetime] | None = None) -> tuple[Category, ...]:
    """Return the checks before an install into a namespace."""
    return (
        api_server(clock),
        Category(
            "what installing needs",
            (
                Check(f"namespace {namespace} is free", lambda client: _is_free(client, namespace)),
                Check("you may create what install creates", lambda client: _may_create(client, namespace)),
            ),
        ),
        Category("optional", (Check("Gateway API is there", _gateway_api),)),
    )


def api_server(clock: Callable[[], datetime] | None = None) -> Category:
    """Return the checks that every other check relies on."""
    now = clock or (lambda: datetime.now(UTC))
    least = ".".join(map(str, LEAST_VERSION))
    return Category(
        "Kubernetes",
        (
            Check("the API server answers", _answers, needed=True),
            Check(f"Kubernetes is {least} or newer", _version, needed=True),
            Check("this machine's clock and the cluster's agree", lambda client: _clocks(client, now)),
            *cluster_checks(),
        ),
    )


async def _answers(client: Client) -> Result:
    await client.raw("/version")
    return OK


async def _version(client: Client) -> Result:
    told = (await client.raw("/version")).json()
    found = re.match(r"(\d+)\.(\d+)", f"{told.get('major')}.{told.get('minor')}")
    if found is None:
        return warning(f"it says {told.get('gitVersion')!r}, which isn't understood")
    if (int(found[1]), int(found[2])) < LEAST_VERSION:
        return error(f"it is {told.get('gitVersion')}", "upgrade the cluster: the proxy is a native sidecar")
    return Result("ok", str(told.get("gitVersion")))


async def _clocks(client: Client, now: Callable[[], datetime]) -> Result:
    """CL-07: name the skew. The API server's answer has whole seconds, and lies between two looks at ours."""
    before = now()
    theirs = await server_time(client)
    after = now()
    ahead = max((before - theirs).total_seconds() - 1.0, 0.0)
    behind = max((theirs - after).total_seconds(), 0.0)
    skew = max(ahead, behind)
    if skew <= NOTABLE_SKEW_SECONDS:
        return OK
    told = f"this machine is {skew:.0f} s {'ahead' if ahead > behind else 'behind'}"
    advice = "set the clocks by NTP: tokens and certificates are valid between instants"
    return error(told, advice) if skew > MOST_SKEW_SECONDS else warning(told, advice)


async def _is_free(client: Client, namespace: str) -> Result:
    if await find(client, NAMESPACES, namespace) is None:
        return OK
    if await installed(client, namespace) is not None:
        return error("policyd is installed there", "see `policyctl upgrade`")
    pods = ResourcePath(PODS.group, PODS.version, PODS.plural, namespace)
    async for pod in items(client, pods, {"limit": "1"}):
        return error(
            f"it is there, and pod {pod['metadata']['name']} runs in it",
            "policyd needs a namespace of its own: another with --set namespace=…",
        )
    return warning("it is there, without pods", "install labels it: Pod Security `restricted`")


async def _may_create(client: Client, namespace: str) -> Result:
    paths = sorted(_created(namespace), key=lambda path: path.text)
    answers = await asyncio.gather(*(allowed(client, "create", path) for path in paths))
    missing = [path.text for path, may in zip(paths, answers, strict=True) if not may]
    if missing:
        return error(f"not {', '.join(missing)}", "installing takes a cluster's administrator")
    return Result("ok", f"{len(paths)} kinds")


def _created(namespace: str) -> set[ResourcePath]:
    """Return where install creates objects, from what it renders."""
    settings = InstallSettings.model_validate({"namespace": namespace, "ha": True})
    objects = [*custom_resource_definitions(), *render(settings, IssuerMaterial("-", "-", "-"))]
    return {path_of(each["apiVersion"], each["kind"], each["metadata"].get("namespace")) for each in objects}


def path_of(api_version: str, kind: str, namespace: str | None) -> ResourcePath:
    """Return where objects of a kind that we write are found."""
    group, _, version = api_version.rpartition("/")
    lower = kind.lower()
    plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"
    return ResourcePath(group, version, _ODD_PLURALS.get(kind, plural), namespace)


async def _gateway_api(client: Client) -> Result:
    names = [f"{plural}.{GATEWAY}" for plural in ROUTE_CRDS]
    found = await asyncio.gather(*(find(client, CRDS, name) for name in names))
    missing = [name for name, crd in zip(names, found, strict=True) if crd is None]
    if not missing:
        return OK
    return warning(
        f"no {', '.join(missing)}",
        "for rules on HTTP routes and gRPC methods apply Gateway API's standard channel "
        "(`kubectl apply --server-side -f standard-install.yaml` of its release); "
        "Servers and their policies work without it",
    )
