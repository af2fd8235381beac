"""What is known of an API server, and of us, after one reading: the words that its readers share."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one reading gave. `authorization` is the header, None where a certificate says who we are."""

    server: str
    """`https://host:port`, without a slash at its end."""
    authorization: str | None = field(default=None, repr=False)
    ca_pem: str | None = None
    """None: the system's roots."""
    certificate: tuple[str, str] | None = None
    """Files of the client's certificate chain and key."""
    certificate_content: bytes = field(default=b"", repr=False)
    """What those files hold: they may be replaced under their names."""
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None
