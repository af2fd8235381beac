"""`policyctl check` of a cluster with policyd in it: whether what was installed is there and works."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography import x509

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.audit_api.names import API_SERVICE
from policyd.checkup.check import OK, Category, Check, Result, error, warning
from policyd.checkup.preflight import api_server
from policyd.checkup.reading import CRDS, NAMESPACES, PODS, find, has_proxy, installed, items
from policyd.install.names import (
    COMPONENTS,
    INJECT_LABEL,
    ISSUER_SECRET,
    ROOTS,
    ROOTS_KEY,
    VALIDATOR,
    WEBHOOKS,
)
from policyd.install.objects import custom_resource_definitions
from policyd.install.settings import VERSION
from servicekit.leaf import X509_FAULTS

SOON = timedelta(days=60)
"""As Linkerd's check: time to rotate without haste."""
MOST_NAMED = 5
"""How many pods a line names."""
_ADMISSION = "admissionregistration.k8s.io"


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
                Check("its images are this policyctl's version", lambda c: _same_version(c, namespace)),
                *(Check(f"{name} is available", partial(_available, namespace, name)) for name in COMPONENTS),
                Check("the API server can ask for denials", _audit_api),
            ),
        ),
        Category(
            "certificates",
            (
                Check(f"the roots are valid for {SOON.days} days", lambda c: _roots(c, namespace, now())),
                Check(f"the issuer is valid for {SOON.days} days", lambda c: _issuer(c, namespace, now())),
                Check("the API server knows the webhooks' CA", lambda c: _webhook_ca(c, now())),
            ),
        ),
        Category("workloads", (Check("every pod of an enrolled namespace has its proxy", _meshed),)),
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


async def _roots(client: Client, namespace: str, now: datetime) -> Result:
    found = await find(client, ResourcePath("", "v1", "configmaps", namespace), ROOTS)
    if found is None:
        return error(f"there is no ConfigMap {ROOTS}", "apply what `policyctl install` printed")
    return _judged((found.get("data") or {}).get(ROOTS_KEY, "").encode(), now)


async def _issuer(client: Client, namespace: str, now: datetime) -> Result:
    found = await find(client, ResourcePath("", "v1", "secrets", namespace), ISSUER_SECRET)
    if found is None:
        return error(f"there is no Secret {ISSUER_SECRET}", "identity can't start: give it an issuer")
    return _judged(base64.b64decode((found.get("data") or {}).get("tls.crt", "")), now)


async def _webhook_ca(client: Client, now: datetime) -> Result:
    for kind, name in (
        ("mutatingwebhookconfigurations", WEBHOOKS),
        ("validatingwebhookconfigurations", VALIDATOR),
    ):
        found = await find(client, ResourcePath(_ADMISSION, "v1", kind), name)
        if found is None:
            return error(f"there is no {kind} {name}", "apply what `policyctl upgrade` prints")
        for hook in found.get("webhooks") or ():
            bundle = (hook.get("clientConfig") or {}).get("caBundle")
            if not bundle:
                return error(f"{hook['name']} has no CA", "the injector writes it: does it run?")
            judged = _judged(base64.b64decode(bundle), now, soon=timedelta())
            if judged.outcome == "error":
                return judged
    return OK


def _judged(pem: bytes, now: datetime, soon: timedelta = SOON) -> Result:
    """Return what is to say of certificates: unreadable, ended, or ending soon."""
    try:
        ends = min(certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(pem))
    except X509_FAULTS as fault:
        return error(f"no certificates: {fault}")
    if ends <= now:
        return error(f"ended on {ends:%Y-%m-%d}", "replace it")
    if ends - now < soon:
        return warning(f"ends on {ends:%Y-%m-%d}", "rotate it")
    return Result("ok", f"until {ends:%Y-%m-%d}")


async def _meshed(client: Client) -> Result:
    """P-19: pods that run in an enrolled namespace and have no proxy."""
    bare: list[str] = []
    async for namespace in items(client, NAMESPACES, {"labelSelector": f"{INJECT_LABEL}=enabled"}):
        name = namespace["metadata"]["name"]
        pods = ResourcePath(PODS.group, PODS.version, PODS.plural, name)
        bare += [f"{name}/{pod['metadata']['name']}" async for pod in items(client, pods) if _is_bare(pod)]
    if not bare:
        return OK
    named = ", ".join(_first(sorted(bare)))
    return error(f"{len(bare)} have none: {named}", "restart them: `kubectl -n NAMESPACE rollout restart …`")


def _is_bare(pod: dict[str, object]) -> bool:
    status = pod.get("status")
    phase = status.get("phase") if isinstance(status, dict) else None
    return phase not in ("Succeeded", "Failed") and not has_proxy(pod)


def _first(names: list[str]) -> Iterable[str]:
    return (*names[:MOST_NAMED], "…") if len(names) > MOST_NAMED else names
