"""Versions and clocks that have to fit together: CRDs, the control plane's pods, nodes, kubectl."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.admission.unmeshed import tag
from policyd.checkup.check import OK, Check, Result, error, warning
from policyd.checkup.reading import CRDS, NODES, find, installed, items, server_time, some
from policyd.install.names import labels
from policyd.install.objects import custom_resource_definitions

LEAST_KUBELET = (1, 29)
"""Older ones take a native sidecar for an init container that never ends (KEP-753)."""
MOST_KUBECTL_SKEW = 1
"""Minor versions between kubectl and the API server (Kubernetes' version skew policy)."""
KUBECTL_SECONDS = 5.0
LEASE_SECONDS = 40
"""How long a kubelet's Lease lasts: a node that is ready has renewed it since, by the kubelet's own clock."""
MOST_AHEAD_SECONDS = 5
"""A Lease of the future is a clock that is ahead; the API server's answer is to the second."""
_LEASES = ResourcePath("coordination.k8s.io", "v1", "leases", "kube-node-lease")
_VERSION = re.compile(r"v?(\d+)\.(\d+)")

Json = Mapping[str, Any]


def cluster_checks() -> tuple[Check, ...]:
    """Return what is asked of any cluster."""
    return (
        Check("every node can run a native sidecar", _kubelets),
        Check("the nodes' clocks and the API server's agree", _node_clocks),
        Check("kubectl fits the cluster", _kubectl),
    )


def install_checks(namespace: str) -> tuple[Check, ...]:
    """Return what is asked of an install."""
    return (
        Check("its CRDs are this version's", _crds),
        Check("its pods run what was installed", lambda client: _components(client, namespace)),
    )


async def _kubelets(client: Client) -> Result:
    old = []
    async for node in items(client, NODES):
        told = ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", "")
        version = _minor(str(told))
        if version is not None and version < LEAST_KUBELET:
            old.append(f"{node['metadata']['name']} has {told}")
    if not old:
        return OK
    return error(f"{len(old)} can't: {some(old)}", "upgrade them: injected pods never become ready there")


async def _node_clocks(client: Client) -> Result:
    """CL-07: a certificate that is valid on one node and isn't yet on another."""
    ready = set()
    async for node in items(client, NODES):
        conditions = (node.get("status") or {}).get("conditions") or ()
        if any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
            ready.add(node["metadata"]["name"])
    leases = [each async for each in items(client, _LEASES)]
    now = await server_time(client)
    wrong = []
    for each in leases:
        renewed = _instant((each.get("spec") or {}).get("renewTime"))
        name = each["metadata"]["name"]
        if renewed is None or name not in ready:
            continue
        ahead = (renewed - now).total_seconds()
        if ahead > MOST_AHEAD_SECONDS:
            wrong.append(f"{name} is at least {ahead:.0f} s ahead")
        elif now - renewed > timedelta(seconds=2 * LEASE_SECONDS):
            wrong.append(f"{name} is about {-ahead:.0f} s behind")
    if not wrong:
        return OK
    return warning(some(wrong), "set the clocks by NTP: tokens and certificates are valid between instants")


async def _kubectl(client: Client) -> Result:
    program = shutil.which("kubectl")
    if program is None:
        return Result("ok", "there is none on PATH")
    ours = await _kubectl_version(program)
    told = (await client.raw("/version")).json()
    theirs = _minor(f"{told.get('major')}.{told.get('minor')}")
    if ours is None or theirs is None:
        return warning("its version isn't understood")
    if ours[0] == theirs[0] and abs(ours[1] - theirs[1]) <= MOST_KUBECTL_SKEW:
        return Result("ok", f"{ours[0]}.{ours[1]}")
    return warning(
        f"it is {ours[0]}.{ours[1]}, the cluster {theirs[0]}.{theirs[1]}",
        "use one that is at most one minor version away: it may leave out fields that it doesn't know",
    )


async def _kubectl_version(program: str) -> tuple[int, int] | None:
    """Ask it, without a cluster."""
    words = (program, "version", "--client", "-o", "json")
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    except OSError:
        return None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), KUBECTL_SECONDS)
        return _minor(str(json.loads(out)["clientVersion"]["gitVersion"]))
    except (TimeoutError, ValueError, KeyError, TypeError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _crds(client: Client) -> Result:
    """CL-06: an older schema loses nothing, but doesn't check or show what is new."""
    ours = custom_resource_definitions()
    found = await asyncio.gather(*(find(client, CRDS, each["metadata"]["name"]) for each in ours))
    other = [
        crd["metadata"]["name"]
        for crd, there in zip(ours, found, strict=True)
        if there is not None and not _holds(there["spec"]["versions"], crd["spec"]["versions"])
    ]
    if not other:
        return OK
    advice = "`policyctl install --crds | kubectl apply --server-side -f -`, or another policyctl"
    return warning(f"not {', '.join(other)}", advice)


def _holds(there: object, ours: object) -> bool:
    """Whether what is there says all that we would write. The API server adds defaults of its own."""
    if isinstance(there, Mapping) and isinstance(ours, Mapping):
        return all(key in there and _holds(there[key], value) for key, value in ours.items())
    if isinstance(there, list) and isinstance(ours, list):
        return len(there) == len(ours) and all(map(_holds, there, ours))
    return there == ours


async def _components(client: Client, namespace: str) -> Result:
    settings = await installed(client, namespace)
    if settings is None:
        return error("no settings of an install")
    wanted = settings.images.tag
    selector = ",".join(f"{key}={value}" for key, value in labels().items())
    other = []
    pods = ResourcePath("", "v1", "pods", namespace)
    async for pod in items(client, pods, {"labelSelector": selector}):
        for container in (pod.get("spec") or {}).get("containers") or ():
            found = tag(str(container.get("image", "")))
            if found != wanted:
                other.append(f"{pod['metadata']['name']} is {found or container.get('image')}")
    if not other:
        return OK
    return warning(
        f"{some(other)}; installed is {wanted}",
        f"a rollout that hasn't ended: `kubectl -n {namespace} rollout status deployment`",
    )


def _minor(text: str) -> tuple[int, int] | None:
    found = _VERSION.match(text)
    return None if found is None else (int(found[1]), int(found[2]))


def _instant(written: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(written))
    except ValueError:
        return None
