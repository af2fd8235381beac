"""The settings file of `policyd`: JSON, unknown keys refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from policyd.errors import SourceError

_ADDRESS = r"^(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$"
_MOST_BYTES = 1024 * 1024

Address = Annotated[str, Field(pattern=_ADDRESS, description="host:port")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, alias_generator=to_camel)


class IdentityPeer(_Strict):
    """Where policyd's own certificate comes from."""

    address: Address


class Settings(_Strict):
    """What one policyd is, whom it trusts, what it reads and where it listens."""

    trust_domain: Annotated[str, Field(min_length=1, max_length=255)]
    namespace: Annotated[str, Field(min_length=1, max_length=63)]
    listen: Address
    folders: Annotated[tuple[Path, ...], Field(min_length=1)]
    pods_folder: Path | None = None
    identity: IdentityPeer
    token_file: Path
    roots_file: Path
    state_dir: Path
    status_socket: Path | None = None
    metrics_listen: Address | None = None
    extra_cluster_networks: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every folder that policyd reads; the pods' first, since of an object in two the earlier counts."""
        return self.folders if self.pods_folder is None else (self.pods_folder, *self.folders)


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of `host:port`; brackets around an IPv6 address are taken off."""
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def read_settings(file: Path) -> Settings:
    """Read and check a settings file; raises SourceError, one line: file, field, value, what was expected."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror}: give --config a readable JSON file") from error
    if len(text) > _MOST_BYTES:
        raise SourceError(f"{file}: {len(text)} bytes: expected at most {_MOST_BYTES}")
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {_short(one['input'])}: {one['msg']}"
            for one in error.errors(include_url=False)
        )
        raise SourceError(f"{file}: {problems}") from error


def _short(value: object) -> str:
    text = re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 80 else text[:77] + "..."
