"""Which published bundles a replica replaces, and which it leaves alone."""

from __future__ import annotations

import time

import pytest

from identity.authority import Authority
from identity.cluster.bundles import SEQUENCE, BundleText
from identity.service import BundleFeed
from identity.spiffe_id import TrustDomain
from servicekit.svid import TrustBundles
from tests.unit.identity.conftest import TRUST_DOMAIN

NOW = time.time_ns() // 1_000_000


@pytest.fixture
def text(authority: Authority) -> BundleText:
    roots = {TRUST_DOMAIN: authority.bundles.of(TRUST_DOMAIN), TrustDomain("other"): (b"not ours",)}
    return BundleText(BundleFeed(TrustBundles(NOW, roots)), TRUST_DOMAIN)


def test_a_bundle_is_our_trust_domains_alone(text: BundleText) -> None:
    assert text.pem.count("BEGIN CERTIFICATE") == 1


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("", True),
        (str(NOW - 1), True),
        (str(NOW), True),  # ours, but changed by hand
        (str(NOW + 1), False),
        (str(NOW + 3_600_000), True),  # nobody's clock
        ("9" * 400, True),
        ("-1", True),
        ("١", True),
    ],
    ids=["none", "before", "now", "after", "in an hour", "huge", "negative", "no digit of ours"],
)
def test_what_differs_is_replaced_unless_it_is_later(text: BundleText, sequence: str, expected: bool) -> None:
    assert text.replaces("other roots", {SEQUENCE: sequence}) is expected
    assert not text.replaces(text.pem, {SEQUENCE: sequence})


def test_what_says_no_sequence_is_replaced(text: BundleText) -> None:
    assert text.replaces("", {})
