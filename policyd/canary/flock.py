"""The canaries: five requests, who makes them, what must come of each, and what it means where it doesn't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["caller", "stranger", "bare"]
SERVER: Final = "server"
CALLER: Final[Role] = "caller"
"""Has a proxy, and the identity that the policy names."""
STRANGER: Final[Role] = "stranger"
"""Has a proxy, and another identity."""
BARE: Final[Role] = "bare"
"""Has no proxy, so no identity."""
ROLES: Final[tuple[Role, ...]] = (CALLER, STRANGER, BARE)
PORT: Final = 8080
ALLOWED_PATH: Final = "/allowed"


@dataclass(frozen=True, slots=True)
class Canary:
    """One request. What is recorded of it must begin with `reason`; `otherwise`: what an answer means."""

    name: str
    does: str
    role: Role
    path: str
    status: int
    reason: str
    otherwise: str

    @property
    def allowed(self) -> bool:
        """Whether the request must come through."""
        return self.reason == "allowed"


CANARIES: Final = (
    Canary(
        "allowed",
        "what a policy grants is allowed",
        CALLER,
        ALLOWED_PATH,
        200,
        "allowed",
        "",
    ),
    Canary(
        "denied",
        "what no policy grants is denied",
        CALLER,
        "/denied",
        403,
        "no_matching_rule",
        "the server's proxy grants more than its policies do",
    ),
    Canary(
        "ambiguous",
        "what could be read two ways is refused",
        BARE,
        f"{ALLOWED_PATH}/%2e%2e/denied",
        400,
        "invalid_request:",
        "requests that applications may read otherwise come through",
    ),
    Canary(
        "plaintext",
        "plaintext without an identity is denied",
        BARE,
        ALLOWED_PATH,
        403,
        "no_identity",
        "whoever has no proxy is let in",
    ),
    Canary(
        "wrong identity",
        "another identity is denied",
        STRANGER,
        ALLOWED_PATH,
        403,
        "no_matching_rule",
        "who calls makes no difference",
    ),
)


def calls_of(role: Role) -> dict[str, str]:
    """Return the paths that a role asks for, by canary."""
    return {each.name: each.path for each in CANARIES if each.role == role}
