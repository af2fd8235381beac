"""The part of policyd's settings file that is about the API."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from policyd.audit_api.names import API_SERVICE, SECRET
from servicekit.config import Address, Config


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class AuditApiSettings(Config):
    """Where the API listens, and what names its certificate has beside the Service's."""

    listen: Address
    service: str = "policyd"
    secret: str = SECRET
    """Where the replicas keep their certificate."""
    api_service: str = API_SERVICE
    """The APIService whose caBundle is kept."""
    names: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=16)] = ()
