"""The order in which a request for a certificate is judged, from the token to the journal. No gRPC here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity.audit import Journal, JournalError
from identity.authority import Authority, Issued
from identity.csr import accept_csr
from identity.limits import Limits
from identity.pods import PodPresence
from identity.refusal import Code, Refused
from identity.spiffe_id import SpiffeId, SpiffeIdError
from identity.tokens import Caller, TokenVerifier
from servicekit.leaf import Leaf

CLOCK_TOLERANCE_MILLIS = 5 * 60 * 1000
"""How far behind the latest issuance the clock may be (security A.8 ID-08)."""

Revoked = Callable[[SpiffeId, str, Leaf | None], bool]
"""(identity, pod uid, certificate shown) → whether MeshDefaults.revoked cuts it; raises Refused."""


def nothing_revoked(_identity: SpiffeId, _pod_uid: str, _shown: Leaf | None) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came; `shown` is the certificate of the connection, verified by TLS."""

    csr: bytes
    token: str
    shown: Leaf | None
    address: str


@dataclass(frozen=True, slots=True)
class Checks:
    """Who says yes before the authority signs."""

    tokens: TokenVerifier
    pods: PodPresence
    limits: Limits
    revoked: Revoked = nothing_revoked


class Issuance:
    """Certificates for callers, and identity's own."""

    def __init__(self, authority: Authority, journal: Journal, checks: Checks) -> None:
        self._authority = authority
        self._journal = journal
        self._checks = checks

    async def certify(self, asked: Asked) -> Issued:
        """Judge, sign, write down, and only then hand out; raises Refused, which is written down too."""
        caller: Caller | None = None
        try:
            caller = await self._checks.tokens.verify(asked.token, renewal=asked.shown is not None)
            identity = await self._judge(caller, asked.shown)
            key = accept_csr(asked.csr, identity)
            issued = self._sign(identity, caller.pod_uid, key)
            await self._write_down(issued, _who(caller, asked))
        except Refused as refusal:
            self._journal.note(_refusal_line(refusal, caller, asked))
            raise
        return issued

    async def certify_self(self, identity: SpiffeId, key: ec.EllipticCurvePublicKey) -> Issued:
        """Issue identity its own certificate; raises Refused."""
        issued = self._sign(identity, None, key)
        await self._write_down(issued, {"kind": "own"})
        return issued

    async def _judge(self, caller: Caller, shown: Leaf | None) -> SpiffeId:
        """Decide whether this caller may have a certificate now; which identity it is for."""
        trust_domain = self._authority.trust_domain
        try:
            identity = SpiffeId.of_service_account(trust_domain, caller.namespace, caller.service_account)
        except SpiffeIdError as error:
            raise Refused(Code.TOKEN_INVALID, f"the token: {error}") from error
        if shown is not None and (shown.identity, shown.pod_uid) != (identity, caller.pod_uid):
            raise Refused(
                Code.PEER_MISMATCH,
                f"the certificate shown is {shown.identity}'s (pod {shown.pod_uid}), the token {identity}'s",
            )
        if shown is not None and shown.not_after <= datetime.now(UTC):
            raise Refused(Code.PEER_MISMATCH, "the certificate of this connection has expired; connect anew")
        self._checks.limits.spend((identity, caller.pod_uid))
        if self._checks.revoked(identity, caller.pod_uid, shown):
            raise Refused(Code.REVOKED, f"{identity}, pod uid {caller.pod_uid}, is revoked")
        await self._checks.pods.require(caller)
        return identity

    def _sign(self, identity: SpiffeId, pod_uid: str | None, key: ec.EllipticCurvePublicKey) -> Issued:
        now = datetime.now(UTC)
        behind = self._journal.last_issued_millis - _millis(now)
        if behind > CLOCK_TOLERANCE_MILLIS:
            raise Refused(
                Code.CLOCK_REGRESSION,
                f"the clock is {behind // 1000} s behind the latest issuance in the journal; set the clock",
            )
        return self._authority.issue(identity, pod_uid, key, now)

    async def _write_down(self, issued: Issued, who: dict[str, object]) -> None:
        plan = issued.plan
        key = plan.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        line: dict[str, object] = {
            "event": "issued",
            "at": _millis(datetime.now(UTC)),
            **who,
            "identity": str(plan.identity),
            "podUID": plan.pod_uid,
            "serial": f"{plan.serial:x}",
            "certificateSHA256": hashlib.sha256(issued.chain[0]).hexdigest(),
            "keySHA256": hashlib.sha256(key).hexdigest(),
            "notBefore": _millis(plan.not_before),
            "notAfter": _millis(plan.not_after),
        }
        try:
            await self._journal.append(line)
        except JournalError as error:
            raise Refused(Code.AUDIT_UNAVAILABLE, "the issuance can't be written down; try again") from error


def _who(caller: Caller, asked: Asked) -> dict[str, object]:
    return {
        "kind": "first" if asked.shown is None else "renewal",
        "pod": f"{caller.namespace}/{caller.pod_name}",
        "serviceAccountUID": caller.service_account_uid,
        "token": caller.token_id,
        "address": asked.address,
    }


def _refusal_line(refusal: Refused, caller: Caller | None, asked: Asked) -> dict[str, object]:
    """Names only what was verified: a token that wasn't has nothing to say here."""
    known: dict[str, object] = {"address": asked.address}
    if caller is not None:
        known |= _who(caller, asked) | {"serviceAccount": caller.service_account, "podUID": caller.pod_uid}
    return {
        "event": "refused",
        "at": _millis(datetime.now(UTC)),
        "code": str(refusal.code),
        "detail": refusal.detail[:500],
        **known,
    }


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)
