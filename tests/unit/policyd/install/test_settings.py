"""Install settings: what is taken, and what is refused with a word on why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from identity.spiffe_id import TrustDomain
from policyd.errors import SourceError
from policyd.install.configs import stored
from policyd.install.issuer import ISSUER_LIFETIME, IssuerMaterial, check_given, make_issuer
from policyd.install.settings import InstallSettings
from tests.unit.policyd.install.worlds import VARIANTS, settings

DOMAIN = TrustDomain("cluster.local")
NOW = datetime.now(UTC)


@pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS)
def test_stored_settings_are_read_back_the_same(given: dict[str, Any]) -> None:
    before = settings(**given)
    assert InstallSettings.model_validate(stored(before)) == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"trustdomain": "x"}, "trustdomain"),
        ({"trustDomain": "Not A Domain"}, "trust domain"),
        ({"namespace": "kube-system"}, "namespace of its own"),
        ({"namespace": "x/y"}, "namespace's name"),
        ({"ha": "yes"}, "valid boolean"),
        ({"defaultAccess": "everything"}, "all-authenticated"),
        ({"clusterNetworks": ["10.0.0.1/8"]}, "host bits"),
        ({"clusterNetworks": []}, "at least 1"),
        ({"images": {"tag": "a b"}}, "an image's tag"),
        ({"images": {"controlPlane": 'x"\n'}}, "an image's name"),
        ({"ha": True, "audit": {"kind": "claim"}}, "can't share one volume"),
        ({"issuer": {"kind": "cert-manager"}}, "certManager"),
        ({"issuer": {"kind": "provided", "certManager": {"name": "x"}}}, "certManager"),
        ({"resources": {"policyd": {"cpu": "1", "memory": "lots", "limit": "1Gi"}}}, "a quantity"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**given)
    assert expected in str(refused.value)


def test_the_issuer_that_is_made_is_one_that_identity_starts_with() -> None:
    made = make_issuer(DOMAIN, NOW)
    check_given(made.material, DOMAIN, NOW)
    assert made.issuer_ends - NOW <= ISSUER_LIFETIME
    assert made.root_key not in (made.material.key or "") + made.material.roots


def test_nothing_secret_is_in_its_text() -> None:
    made = make_issuer(DOMAIN, NOW)
    assert "PRIVATE" not in repr(made)


def test_given_material_that_identity_would_refuse_is_refused_before_it_is_installed() -> None:
    made, other = make_issuer(DOMAIN, NOW).material, make_issuer(DOMAIN, NOW).material
    elsewhere = make_issuer(TrustDomain("example.org"), NOW).material
    cases = {
        "issued by a root": IssuerMaterial(other.roots, made.certificate, made.key),
        "isn't the one": IssuerMaterial(made.roots, made.certificate, other.key),
        "expected spiffe://cluster.local": elsewhere,
        "certificates in PEM": IssuerMaterial("junk", made.certificate, made.key),
    }
    for expected, material in cases.items():
        with pytest.raises(SourceError, match=expected):
            check_given(material, DOMAIN, NOW)
    with pytest.raises(SourceError, match="certificates in PEM"):
        check_given(IssuerMaterial("junk"), DOMAIN, NOW)


def test_id_07_an_issuer_near_its_end_is_not_installed() -> None:
    made = make_issuer(DOMAIN, NOW - ISSUER_LIFETIME + timedelta(hours=1)).material
    with pytest.raises(SourceError, match="ends in less than"):
        check_given(made, DOMAIN, NOW)
