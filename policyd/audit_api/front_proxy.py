"""Who asks: what the API server says of that, and how it proves to be the API server.

It shows a certificate of the front proxy's authority; whoever does may say in headers for whom it asks. Which
authority, names and headers stands in a ConfigMap of the cluster. Without that proof headers are nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policyd.audit_api.refusal import Refusal

CA: Final = "requestheader-client-ca-file"
NAMES: Final = "requestheader-allowed-names"
USERS: Final = "requestheader-username-headers"
UIDS: Final = "requestheader-uid-headers"
GROUPS: Final = "requestheader-group-headers"
EXTRAS: Final = "requestheader-extra-headers-prefix"
"""The ConfigMap's keys (`k8s.io/apiserver`, DynamicRequestHeaderController)."""
MOST_AUTHORITIES: Final = 64
MOST_GROUPS: Final = 1000
MOST_CERTIFICATES: Final = 256
"""Certificates whose signature isn't checked again with every request."""

Headers = Sequence[tuple[bytes, bytes]]
_FAULTS = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom the API server asks."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """Whom to believe, and in which headers. `names` empty: any name that the authority certifies."""

    authorities: str
    """PEM."""
    names: frozenset[str]
    users: tuple[str, ...]
    groups: tuple[str, ...]
    uids: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    issuers: tuple[x509.Certificate, ...] = field(default=(), compare=False, repr=False)

    def caller(self, certificate: bytes | None, headers: Headers) -> Caller:
        """Return for whom is asked. Raises Refusal (401).

        `certificate`: the one that the handshake verified, by authorities that may have been replaced since:
        so that is looked at again.
        """
        if certificate is None:
            raise Refusal(401, "no client certificate: expected that of the API server's front proxy")
        if not self._is_ours(certificate):
            raise Refusal(401, "the client certificate isn't that of the API server's front proxy")
        user = self._one(headers, self.users)
        if user is None:
            raise Refusal(401, "the front proxy named no user")
        groups = tuple(value for name in self.groups for value in _values(headers, name))
        if len(groups) > MOST_GROUPS:
            raise Refusal(401, f"the front proxy named {len(groups)} groups, expected at most {MOST_GROUPS}")
        return Caller(user, self._one(headers, self.uids) or "", groups, self._extra(headers))

    def _is_ours(self, der: bytes) -> bool:
        read = _read(der)
        now = datetime.now(UTC)
        if read is None or not read.not_valid_before_utc <= now <= read.not_valid_after_utc:
            return False
        named = [str(each.value) for each in read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if self.names and not (len(named) == 1 and named[0] in self.names):
            return False
        found = _issuers_of(der, self)
        return any(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in found)

    def _one(self, headers: Headers, names: Sequence[str]) -> str | None:
        """Return the one value of the first header that has any. Raises Refusal where it has several."""
        for name in names:
            values = [value for value in _values(headers, name) if value]
            if len(values) > 1:
                raise Refusal(401, f"{name} is there {len(values)} times")
            if values:
                return values[0]
        return None

    def _extra(self, headers: Headers) -> tuple[tuple[str, tuple[str, ...]], ...]:
        found: dict[str, tuple[str, ...]] = {}
        for raw, value in headers:
            name = raw.decode("latin-1").lower()
            prefix = next((each for each in self.extras if name.startswith(each.lower())), None)
            if prefix is not None:
                key = unquote(name[len(prefix) :])
                found[key] = (*found.get(key, ()), _text(value))
        return tuple(sorted(found.items()))


def read_front_proxy(data: Mapping[str, str]) -> FrontProxy:
    """Read the ConfigMap `extension-apiserver-authentication`. Raises ValueError: nobody is believed then."""
    authorities = data.get(CA, "")
    if not authorities.strip():
        raise ValueError(f"{CA} is missing: the API server runs without aggregation")
    try:
        issuers = tuple(x509.load_pem_x509_certificates(authorities.encode()))
    except _FAULTS as error:
        raise ValueError(f"{CA}: {error}") from error
    if len(issuers) > MOST_AUTHORITIES:
        raise ValueError(f"{CA}: {len(issuers)} certificates, expected at most {MOST_AUTHORITIES}")
    users, groups = _listed(data, USERS), _listed(data, GROUPS)
    if not users:
        raise ValueError(f"{USERS} names no header")
    names, uids, extras = (_listed(data, key) for key in (NAMES, UIDS, EXTRAS))
    return FrontProxy(authorities, frozenset(names), users, groups, uids, extras, issuers)


def _listed(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    try:
        found = json.loads(data.get(key) or "[]")
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f"{key}: expected a list of names")
    return tuple(found)


@lru_cache(MOST_CERTIFICATES)
def _read(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except _FAULTS:
        return None


@lru_cache(MOST_CERTIFICATES)
def _issuers_of(der: bytes, front: FrontProxy) -> tuple[x509.Certificate, ...]:
    """Return those of the authorities that issued a certificate themselves, if it is one for clients."""
    read = _read(der)
    if read is None or not _is_for_clients(read):
        return ()
    return tuple(each for each in front.issuers if _issued(read, each))


def _issued(read: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        read.verify_directly_issued_by(issuer)
    except Exception:  # whatever is wrong with either, it is no proof
        return False
    return True


def _is_for_clients(read: x509.Certificate) -> bool:
    try:
        usage = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except _FAULTS:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _values(headers: Headers, name: str) -> list[str]:
    wanted = name.lower().encode("latin-1", "replace")
    return [_text(value) for key, value in headers if key.lower() == wanted]


def _text(value: bytes) -> str:
    """Read a header as Go wrote it: the bytes of a string, which are UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refusal(401, "a header of the front proxy is no UTF-8") from None
