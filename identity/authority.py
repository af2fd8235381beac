"""Root → intermediate in memory → leaf, and the trust bundle that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from identity.material import Material, Signer, load_material
from identity.profile import BACKDATE, LeafPlan, intermediate_builder, leaf_builder, new_serial
from identity.recheck import Expected, RecheckError, recheck
from identity.refusal import Code, Refused
from identity.spiffe_id import SpiffeId, TrustDomain
from servicekit.svid import TrustBundles

INTERMEDIATE_LIFETIME = timedelta(days=7)
"""At least six leaf lifetimes, so that its renewal at half-life never shortens a leaf."""
LEAST_LIFETIME = timedelta(minutes=1)
"""A leaf that would live shorter, because its issuer ends, isn't made."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that passed its recheck; DER, leaf first, no root."""

    chain: tuple[bytes, ...]
    plan: LeafPlan


@dataclass(frozen=True, slots=True)
class _Issuer:
    """Who signs leaves just now. `chain` goes behind the leaf (DER)."""

    signer: Signer
    chain: tuple[bytes, ...]
    renew_at: datetime | None


class Authority:
    """Signs leaves. Never invents a root: its material comes from a folder, or it isn't made."""

    def __init__(
        self, folder: Path, trust_domain: TrustDomain, leaf_lifetime: timedelta, now: datetime
    ) -> None:
        """Load and check the folder; raises MaterialError."""
        self.trust_domain = trust_domain
        self._folder = folder
        self._leaf_lifetime = leaf_lifetime
        self._material = load_material(folder, trust_domain, now)
        self._issuer = self._make_issuer(now)
        self._bundles = self._make_bundles(now)
        self._issued_until: dict[x509.Certificate, datetime] = {}

    @property
    def bundles(self) -> TrustBundles:
        return self._bundles

    @property
    def expiries(self) -> dict[str, datetime]:
        """When the CA certificates in use end, by `root` and `issuer`."""
        issuer = self._issuer.signer.certificate
        return {
            "root": self._material.anchor.not_valid_after_utc,
            "issuer": issuer.not_valid_after_utc,
        }

    def issue(
        self, identity: SpiffeId, pod_uid: str | None, key: ec.EllipticCurvePublicKey, now: datetime
    ) -> Issued:
        """Sign a leaf and check it again; raises Refused (NO_ISSUER, INTERNAL)."""
        if identity.trust_domain != self.trust_domain:
            raise Refused(Code.NAME_REFUSED, f"{identity} isn't of trust domain {self.trust_domain}")
        issuer = self._issuer.signer.certificate
        begin = now.replace(microsecond=0)
        anchor = self._material.anchor
        end = min(begin + self._leaf_lifetime, issuer.not_valid_after_utc, anchor.not_valid_after_utc)
        # The lifetime asked for may itself be short; only what the issuer cuts off is refused.
        if end - begin < min(LEAST_LIFETIME, self._leaf_lifetime):
            raise Refused(Code.NO_ISSUER, f"the issuer ends at {issuer.not_valid_after_utc.isoformat()}")
        plan = LeafPlan(identity, pod_uid, key, new_serial(), begin - BACKDATE, end)
        leaf = self._issuer.signer.sign(leaf_builder(plan, issuer)).public_bytes(Encoding.DER)
        try:
            recheck(leaf, Expected.of(plan, issuer))
        except RecheckError as error:
            raise Refused(Code.INTERNAL, f"the certificate made isn't the one meant: {error}") from error
        self._issued_until[anchor] = max(end, self._issued_until.get(anchor, end))
        return Issued((leaf, *self._issuer.chain), plan)

    def orphaned_until(self, now: datetime) -> datetime | None:
        """Return when the last certificate of ours ends whose root is trusted no longer; None without one."""
        roots = self._material.roots
        ends = [end for root, end in self._issued_until.items() if root not in roots and end > now]
        return max(ends, default=None)

    def keep_up(self, now: datetime) -> bool:
        """Make the intermediate anew at half its life; whether it did."""
        if self._issuer.renew_at is None or now < self._issuer.renew_at:
            return False
        self._issuer = self._make_issuer(now)
        return True

    def reload(self, now: datetime) -> bool:
        """Read the folder again; whether anything changed. Raises MaterialError, keeping what it had."""
        material = load_material(self._folder, self.trust_domain, now)
        if material.roots == self._material.roots and _same_signer(material, self._material):
            return False
        former = self._material, self._issuer
        self._material = material
        try:
            self._issuer = self._make_issuer(now)
        except ValueError:
            self._material, self._issuer = former
            raise
        if material.roots != former[0].roots:
            self._bundles = self._make_bundles(now, self._bundles.sequence)
        return True

    def _make_issuer(self, now: datetime) -> _Issuer:
        signer = self._material.signer
        if not self._material.signer_is_root:
            return _Issuer(signer, (signer.certificate.public_bytes(Encoding.DER),), None)
        key = ec.generate_private_key(ec.SECP256R1())
        begin = now.replace(microsecond=0)
        end = min(begin + INTERMEDIATE_LIFETIME, signer.certificate.not_valid_after_utc)
        builder = intermediate_builder(key.public_key(), self.trust_domain, signer.certificate)
        certificate = signer.sign(builder.not_valid_before(begin - BACKDATE).not_valid_after(end))
        chain = (certificate.public_bytes(Encoding.DER),)
        return _Issuer(Signer(certificate, key), chain, begin + (end - begin) / 2)

    def _make_bundles(self, now: datetime, former: int = 0) -> TrustBundles:
        # By the clock, so that it also rises across restarts.
        sequence = max(former + 1, int(now.timestamp() * 1000))
        roots = tuple(_der(root) for root in self._material.roots)
        return TrustBundles(sequence, {self.trust_domain: roots})


def _same_signer(one: Material, other: Material) -> bool:
    return one.signer.certificate == other.signer.certificate


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
