"""Every port that the control plane listens on; what isn't here isn't in any manifest (P-17)."""

from __future__ import annotations

from dataclasses import dataclass

from policyd.install.names import IDENTITY, INJECTOR, POLICYD


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a component's pods. `service` is the Service's port, None where no Service leads to it."""

    component: str
    name: str
    number: int
    service: int | None
    protection: str
    """Who may speak to it, and by what proof."""


METRICS = 9990
PORTS = (
    Port(IDENTITY, "grpc", 9443, 9443, "TLS 1.3; a token, and for renewals a client certificate"),
    Port(IDENTITY, "metrics", METRICS, None, "plaintext, read only; namespaces with the scrape label"),
    Port(POLICYD, "grpc", 9444, 9444, "TLS 1.3 with a client certificate of the mesh"),
    Port(POLICYD, "audit", 9446, 443, "TLS 1.3 with the client certificate of the API server's front proxy"),
    Port(POLICYD, "metrics", METRICS, None, "plaintext, read only; namespaces with the scrape label"),
    Port(INJECTOR, "webhook", 9445, 443, "TLS 1.3; the API server's client certificate where it has one"),
    Port(INJECTOR, "metrics", METRICS, None, "plaintext, read only; namespaces with the scrape label"),
)


def ports_of(component: str) -> tuple[Port, ...]:
    """Return a component's ports, in the table's order."""
    return tuple(port for port in PORTS if port.component == component)


def port(component: str, name: str) -> Port:
    """Return one port. Raises StopIteration for a name that isn't in the table."""
    return next(each for each in PORTS if (each.component, each.name) == (component, name))


def table() -> str:
    """Return the ports as a table in Markdown, which docs/reference/install.md has."""
    rows = ["| component | port | is | Service's port | spoken to by |", "|---|---|---|---|---|"]
    for each in PORTS:
        through = "none" if each.service is None else str(each.service)
        rows.append(f"| {each.component} | {each.number} | {each.name} | {through} | {each.protection} |")
    return "\n".join(rows) + "\n"
