from __future__ import annotations

import pytest

from identity.spiffe_id import SpiffeId, SpiffeIdError, TrustDomain

TD = TrustDomain("cluster.local")


def test_service_account_form_round_trips() -> None:
    made = SpiffeId.of_service_account(TD, "emojivoto", "web.v1")
    assert str(made) == "spiffe://cluster.local/ns/emojivoto/sa/web.v1"
    assert SpiffeId.parse(str(made)) == made
    assert made.service_account == ("emojivoto", "web.v1")
    assert made.dns_name == "web.v1.emojivoto.sa.cluster.local"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/a/../b",
        "spiffe://td/./a",
        "spiffe://td/a%2eb",
        "spiffe://td/a?b",
        "spiffe://td/a#b",
        "spiffe://td:80/a",
        "spiffe://u@td/a",
        "spiffe://TD/a",
        "SPIFFE://td/a",
        "https://td/a",
        "spiffe://td/a\0",
        "spiffe://td/a\n",
        "spiffe://td/ä",
        "spiffe://tд/a",
        "spiffe:///a",
        " spiffe://td/a",
        "spiffe://" + "a" * 256 + "/a",
        "spiffe://td/" + "a" * 2048,
    ],
)
def test_refuses_what_could_be_read_two_ways(text: str) -> None:
    with pytest.raises(SpiffeIdError):
        SpiffeId.parse(text)


def test_exactly_2048_bytes_are_allowed() -> None:
    assert SpiffeId.parse("spiffe://td/" + "a" * (2048 - 12)).path


def test_every_byte_of_a_path_is_allowed_or_not_as_the_standard_says() -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_")
    for code in range(256):
        character = chr(code)
        if character == "/":
            continue
        try:
            SpiffeId.parse(f"spiffe://td/a{character}b")
        except SpiffeIdError:
            assert character not in allowed
        else:
            assert character in allowed


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("a.b", "x"),
        ("A", "x"),
        ("-a", "x"),
        ("a", "x_y"),
        ("", "x"),
        ("a", ".."),
        ("a", ""),
        ("a" * 64, "x"),
        ("a", "b" * 254),
    ],
)
def test_refuses_names_that_kubernetes_has_not(namespace: str, name: str) -> None:
    with pytest.raises(SpiffeIdError):
        SpiffeId.of_service_account(TD, namespace, name)


def test_no_dns_name_where_it_would_be_none() -> None:
    assert SpiffeId.of_service_account(TrustDomain("a_b"), "n", "s").dns_name is None
    long = ".".join(["a" * 60] * 4)
    assert SpiffeId.of_service_account(TD, "n", long).dns_name is None
    assert SpiffeId.parse("spiffe://td/other/form").dns_name is None
