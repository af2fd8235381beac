"""Roots, issuer and the webhooks' certificate: whether they hold together, and for how long."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from kubeapi.client import Client, JsonObject
from kubeapi.path import ResourcePath
from policyd.checkup.check import OK, Category, Check, Result, error, warning
from policyd.checkup.reading import find
from policyd.install.names import INJECTOR_SECRET, ISSUER_SECRET, ROOTS, ROOTS_KEY, VALIDATOR, WEBHOOKS
from servicekit.leaf import X509_FAULTS

SOON = timedelta(days=60)
"""As Linkerd's check: time to rotate without haste."""
SERVING_SOON = timedelta(days=15)
"""The injector renews its certificate at half of ninety days: less is left only where it doesn't."""
_ADMISSION = "admissionregistration.k8s.io"
_FAULTS = (*X509_FAULTS, binascii.Error)

Certificates = Sequence[x509.Certificate]


class _Unreadable(Exception):  # noqa: N818 - says what it is
    """A Secret or ConfigMap isn't there, or holds no certificates: the result to report."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.detail)
        self.result = result


def category(namespace: str, now: datetime) -> Category:
    """Return the checks of an install's certificates."""
    return Category(
        "certificates",
        (
            Check(f"the roots are valid for {SOON.days} days", lambda c: _roots(c, namespace, now)),
            Check(f"the issuer is valid for {SOON.days} days", lambda c: _issuer(c, namespace, now)),
            Check("the issuer is signed by one of the roots", lambda c: _signed(c, namespace)),
            Check("the API server knows the webhooks' CA", lambda c: _webhook_ca(c, now)),
            Check("the webhooks' certificate is of that CA", lambda c: _serving(c, namespace, now)),
        ),
    )


async def _roots(client: Client, namespace: str, now: datetime) -> Result:
    try:
        return _judged(await _root_certificates(client, namespace), now)
    except _Unreadable as problem:
        return problem.result


async def _issuer(client: Client, namespace: str, now: datetime) -> Result:
    try:
        return _judged(await _issuers(client, namespace), now)
    except _Unreadable as problem:
        return problem.result


async def _signed(client: Client, namespace: str) -> Result:
    try:
        roots, issuers = await _root_certificates(client, namespace), await _issuers(client, namespace)
    except _Unreadable as problem:
        return problem.result
    if any(_is_of(issuers[0], root) for root in roots):
        return OK
    return error(
        f"{ISSUER_SECRET} isn't by any of {len(roots)} roots in {ROOTS}",
        "identity refuses to start with it: give it an issuer of these roots, or add its root to them",
    )


async def _root_certificates(client: Client, namespace: str) -> Certificates:
    found = await find(client, ResourcePath("", "v1", "configmaps", namespace), ROOTS)
    if found is None:
        raise _Unreadable(error(f"there is no ConfigMap {ROOTS}", "apply what `policyctl install` printed"))
    return _read((found.get("data") or {}).get(ROOTS_KEY, "").encode())


async def _issuers(client: Client, namespace: str) -> Certificates:
    found = await _secret(client, namespace, ISSUER_SECRET)
    if found is None:
        advice = "identity can't start: give it an issuer"
        raise _Unreadable(error(f"there is no Secret {ISSUER_SECRET}", advice))
    return _read(_decoded(found, "tls.crt"))


async def _secret(client: Client, namespace: str, name: str) -> JsonObject | None:
    return await find(client, ResourcePath("", "v1", "secrets", namespace), name)


async def _webhook_ca(client: Client, now: datetime) -> Result:
    try:
        for each in await _bundles(client):
            judged = _judged(each, now, timedelta())
            if judged.outcome == "error":
                return judged
    except _Unreadable as problem:
        return problem.result
    return OK


async def _bundles(client: Client) -> list[Certificates]:
    """Return the caBundle of each webhook."""
    bundles = []
    for kind, name in (
        ("mutatingwebhookconfigurations", WEBHOOKS),
        ("validatingwebhookconfigurations", VALIDATOR),
    ):
        found = await find(client, ResourcePath(_ADMISSION, "v1", kind), name)
        if found is None:
            advice = "apply what `policyctl upgrade` prints"
            raise _Unreadable(error(f"there is no {kind} {name}", advice))
        for hook in found.get("webhooks") or ():
            bundle = (hook.get("clientConfig") or {}).get("caBundle")
            if not bundle:
                advice = "the injector writes it: does it run?"
                raise _Unreadable(error(f"{hook['name']} has no CA", advice))
            bundles.append(_read(base64.b64decode(bundle)))
    return bundles


async def _serving(client: Client, namespace: str, now: datetime) -> Result:
    """WH-07: what the injector shows is by a CA that each registration has; else no pod can start."""
    try:
        secret = await _secret(client, namespace, INJECTOR_SECRET)
        if secret is None or not secret.get("data"):
            return error(f"Secret {INJECTOR_SECRET} is empty", "the injector fills it: does it run?")
        shown = _read(_decoded(secret, "tls.crt"))[0]
        bundles = await _bundles(client)
    except _Unreadable as problem:
        return problem.result
    if not all(any(_is_of(shown, each) for each in bundle) for bundle in bundles):
        return error(
            "a registration has another CA",
            "the injector keeps them equal: restart it, and see whether something else writes them",
        )
    return _judged([shown], now, SERVING_SOON)


def _decoded(secret: JsonObject, key: str) -> bytes:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""))
    except binascii.Error as fault:
        raise _Unreadable(error(f"no certificates: {fault}")) from fault


def _read(pem: bytes) -> Certificates:
    try:
        return x509.load_pem_x509_certificates(pem)
    except _FAULTS as fault:
        raise _Unreadable(error(f"no certificates: {fault}", "write them again")) from fault


def _is_of(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *X509_FAULTS):
        return False
    return True


def _judged(certificates: Certificates, now: datetime, soon: timedelta = SOON) -> Result:
    """Return what is to say of certificates: not valid yet, ended, or ending soon."""
    begins = max(each.not_valid_before_utc for each in certificates)
    ends = min(each.not_valid_after_utc for each in certificates)
    if begins > now:
        return error(
            f"valid from {begins:%Y-%m-%d %H:%M} on", "set the clock that is wrong: it is later there"
        )
    if ends <= now:
        return error(f"ended on {ends:%Y-%m-%d}", "replace it")
    if ends - now < soon:
        return warning(f"ends on {ends:%Y-%m-%d}", "rotate it")
    return Result("ok", f"until {ends:%Y-%m-%d}")
