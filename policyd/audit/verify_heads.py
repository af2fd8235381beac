"""The heads file as a verifier reads it: every line's signature and place (docs/reference/audit-store.md)."""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning

_FIRST = "0" * 64
"""What the first line of a store names as the line before it."""
_CONTEXT = b"policyd.v1.AuditHeads\0"
_UNREADABLE = (
    *(ValueError, KeyError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion),
    *(
        CryptographyDeprecationWarning,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ),
)
"""What somebody else's certificate or line can raise."""
_FIELDS: Mapping[str, type] = {
    **dict.fromkeys(
        ("chain", "identity", "podUID", "namespace", "pod", "workload", "sha256", "removedSha256"), str
    ),
    **dict.fromkeys(("sequence", "removed"), int),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, or to be known; `chain` and the first `sequence` concerned, where it is about one."""

    text: str
    detail: str = ""
    chain: str | None = None
    sequence: int | None = None


@dataclass(slots=True)
class Said:
    """All that the file says. `lines` are the hashes of its lines, and of the one before the first."""

    store: str | None = None
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    rollbacks: int = 0
    lines: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    _asked: dict[str, set[int]] = field(default_factory=dict)

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add what a line says of chains."""
        self.rows += rows
        for row in rows:
            self._asked.setdefault(row["chain"], set()).update((row["sequence"], row["removed"]))

    def asked(self, chain: str) -> frozenset[int]:
        """Return the sequences of a chain that some line names."""
        return frozenset(self._asked.get(chain, ()))


def heads_of(content: bytes, roots: Sequence[bytes]) -> Said:
    """Read the lines; each must be signed, and name the line before it."""
    said = Said()
    chain: tuple[bytes, ...] = ()
    previous: str | None = None  # any: a file that was begun anew goes on from the one before
    for number, line in enumerate(content.split(b"\n")[: content.count(b"\n")], 1):
        try:
            payload, chain = _checked(line, chain, roots, said)
        except _TornError:
            # A crash: the next line names the one before this, and nothing where this was the first ever.
            previous = previous or _FIRST
            continue
        except _UNREADABLE as error:
            said.problems.append(Finding(f"heads, line {number}", str(error) or "its signature is wrong"))
            return said
        if previous is not None and payload["previous"] != previous:
            said.problems.append(Finding(f"heads, line {number}", "the line before is missing or another"))
        previous = hashlib.sha256(line).hexdigest()
        said.lines |= {previous, payload["previous"]}
        said.store = said.store or payload["store"]
        said.rollbacks = max(said.rollbacks, payload["rollbacks"])
        said.take(payload["chains"])
    if said.signers and not roots:
        who = ", ".join(sorted(said.signers)) or "nobody"
        said.notes.append(Finding(f"signatures are checked, who signed is not (say --roots): {who}"))
    return said


class _TornError(Exception):
    """A line that a crash cut off."""


def _checked(
    line: bytes, chain: tuple[bytes, ...], roots: Sequence[bytes], said: Said
) -> tuple[Mapping[str, Any], tuple[bytes, ...]]:
    """Return a line's payload and the certificates that hold from it on. Raises what is wrong with it."""
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise _TornError from error
    if "chain" in fields:
        chain = tuple(base64.b64decode(each, validate=True) for each in fields["chain"])
        said.signers.add(_signer(chain, roots))
    if not chain:
        raise ValueError("no certificate to check it by")
    key = _loaded(chain[0]).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("the certificate's key is no elliptic-curve key")
    text = fields["payload"]
    signature = base64.b64decode(fields["signature"], validate=True)
    key.verify(signature, _CONTEXT + text.encode(), ec.ECDSA(SHA256()))
    payload: Mapping[str, Any] = json.loads(text)
    if not isinstance(payload["rollbacks"], int):
        raise TypeError("rollbacks: not of its type")
    for row in payload["chains"]:
        wrong = next((name for name, kind in _FIELDS.items() if not isinstance(row[name], kind)), None)
        if wrong is not None:
            raise ValueError(f"{wrong}: not of its type")
    return payload, chain


def _signer(chain: tuple[bytes, ...], roots: Sequence[bytes]) -> str:
    """Return the SPIFFE ID of a chain's leaf; raises ValueError where it doesn't lead to one of the roots.

    When it was signed is not asked: the certificates of former days have ended.
    """
    certificates = [_loaded(each) for each in chain]
    names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (identity,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not roots:
        return identity
    if not identity.endswith("/sa/policyd"):
        raise ValueError(f"signed by {identity}, which is no policyd")
    above = [_loaded(each) for each in roots]
    for issued, issuers in zip(certificates, [*([each] for each in certificates[1:]), above], strict=True):
        if not any(_issued_by(issued, issuer) for issuer in issuers):
            raise ValueError(f"the certificate of {identity} leads to none of the roots")
    return identity


def _loaded(der: bytes) -> x509.Certificate:
    """Return a certificate; what is read only for old times' sake (RFC 5280 forbids it) is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(der)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except _UNREADABLE:
        return False
    return True
