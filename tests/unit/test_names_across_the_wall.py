"""Names that identity and policyd must agree on, though neither may import the other."""

from __future__ import annotations

from identity.cluster import bundles
from policyd.admission.injection import TRUST_BUNDLE_KEY
from policyd.model.names import TRUST_BUNDLE


def test_what_identity_writes_is_what_the_injector_mounts() -> None:
    assert (bundles.NAME, bundles.KEY) == (TRUST_BUNDLE, TRUST_BUNDLE_KEY)
