"""CIDRs in one normal form."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from policyd.resources.spec import Items, Spec, shown

_MAPPED = IPv6Network("::ffff:0:0/96")


def normal_address(text: str) -> IPv4Address | IPv6Address:
    """Return an address, IPv4-mapped IPv6 as IPv4. Raises ValueError for anything else, scoped IPv6 too."""
    if "%" in text:
        raise ValueError(f"{shown(text)} has a scope: expected an address without `%`")
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def normal_network(value: object) -> str:
    """Return a CIDR, or an address alone, as `address/length`.

    IPv4-mapped IPv6 as IPv4 (semantics W5). Raises ValueError.
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no network: expected text such as 10.0.0.0/8 or 10.0.0.7")
    address, slash, length = value.partition("/")
    if not slash:
        single = normal_address(value)
        return f"{single}/{single.max_prefixlen}"
    if "%" in value or not (length.isascii() and length.isdigit() and str(int(length[:4])) == length):
        raise ValueError(f"{shown(value)} is no network: expected a CIDR such as 10.0.0.0/8 or fd00::/8")
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f"{shown(value)} is no network: expected a CIDR such as 10.0.0.0/8 or fd00::/8"
        ) from None
    if network.network_address != ip_address(address):
        raise ValueError(
            f"{shown(value)} has bits set behind its length: expected {network}, or {address} alone"
        )
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return str(IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96)))
    return str(network)


Cidr = Annotated[str, BeforeValidator(normal_network), Field(max_length=64)]


class Network(Spec):
    """A block of addresses, less some."""

    cidr: Cidr
    """A CIDR or a single address."""
    except_: Annotated[Items[Cidr], Field(alias="except", max_length=1000)] = ()
    """CIDRs or addresses inside `cidr` that don't count."""

    @model_validator(mode="after")
    def _exceptions_lie_inside(self) -> Self:
        whole = ip_network(self.cidr)
        for text in self.except_:
            part = ip_network(text)
            if part == whole:
                raise ValueError(f"except {text} covers all of {self.cidr}: nothing is left")
            inside = (
                part.subnet_of(whole)
                if isinstance(part, IPv4Network) and isinstance(whole, IPv4Network)
                else isinstance(part, IPv6Network)
                and isinstance(whole, IPv6Network)
                and part.subnet_of(whole)
            )
            if not inside:
                raise ValueError(f"except {text} does not lie inside {self.cidr}")
        return self
