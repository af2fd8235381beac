"""The serving certificate through its life: whoever trusts the bundle can call at every moment (WH-07)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from policyd.serving.certificate import LEAF_LIFETIME, Material, packed, unpacked, upkeep

NAMES = ("injector.policyd.svc",)
BEGIN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def verifies(bundle: bytes, shown: Material, at: datetime) -> bool:
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(shown.leaf.parsed, [])
    except VerificationError:
        return False
    return True


def test_at_first_there_is_one_and_nothing_is_due() -> None:
    made = upkeep(None, NAMES, BEGIN)
    assert verifies(made.bundle, made, BEGIN)
    assert upkeep(made, NAMES, BEGIN) is made
    assert upkeep(made, NAMES, BEGIN + timedelta(days=1)) is made


def test_it_is_renewed_at_half_its_life_by_the_same_authority() -> None:
    made = upkeep(None, NAMES, BEGIN)
    later = upkeep(made, NAMES, BEGIN + LEAF_LIFETIME / 2)
    assert later.leaf != made.leaf
    assert later.bundle == made.bundle
    assert later.ends > made.ends


def test_other_names_make_another_certificate() -> None:
    made = upkeep(None, NAMES, BEGIN)
    renamed = upkeep(made, ("other.policyd.svc", "127.0.0.1"), BEGIN)
    assert renamed.authority == made.authority
    assert renamed.leaf != made.leaf


def test_wh_07_over_ten_years_everything_shown_is_trusted_by_a_bundle_of_the_day_before() -> None:
    """The API server has the bundle of a day ago, and another replica shows what was there then, too."""
    made = upkeep(None, NAMES, BEGIN)
    yesterday, authorities = made, {made.authority.certificate}
    for day in range(1, 3650):
        at = BEGIN + timedelta(days=day)
        made = upkeep(made, NAMES, at)
        if made is yesterday and day % 30:
            continue
        assert verifies(yesterday.bundle, made, at), day
        assert verifies(made.bundle, yesterday, at), day
        assert len(x509.load_pem_x509_certificates(made.bundle)) <= 3
        yesterday = made
        authorities.add(made.authority.certificate)
    assert len(authorities) >= 8


def test_after_a_long_sleep_it_begins_anew() -> None:
    made = upkeep(None, NAMES, BEGIN)
    late = BEGIN + timedelta(days=1000)
    assert verifies(upkeep(made, NAMES, late).bundle, upkeep(made, NAMES, late), late) is False
    fresh = upkeep(made, NAMES, late)
    assert verifies(fresh.bundle, fresh, late)


def test_what_is_kept_is_read_back_whole_or_not_at_all() -> None:
    made = upkeep(None, NAMES, BEGIN)
    parts = packed(made)
    assert unpacked(parts) == made
    other = packed(upkeep(None, NAMES, BEGIN))
    for name in ("ca.crt", "ca.key", "tls.crt", "tls.key"):
        for broken in (b"", b"junk", parts[name][:100], other[name]):
            assert unpacked({**parts, name: broken}) is None, name
    assert unpacked({}) is None
