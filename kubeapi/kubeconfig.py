"""A kubeconfig, read by the `kubernetes` package: certificates, tokens, files of tokens, exec plugins."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from kubernetes.client import Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from kubeapi.credentials import DEFAULT_NAMESPACE, Credentials
from kubeapi.errors import AccessError

DEFAULT_FILE = "~/.kube/config"
PLUGIN_SECONDS = 600.0
"""How long is believed what a plugin gave without saying when it ends."""
_BEFORE_EXPIRY = timedelta(minutes=5)
_Loader: Any = KubeConfigLoader  # neither has types
_Merger: Any = KubeConfigMerger
_FAULTS = (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError)


class Kubeconfig:
    """One context of a kubeconfig. `read` gives what its files and plugins say now."""

    def __init__(self, file: Path | None, context: str | None) -> None:
        """Find the context. Raises AccessError."""
        self._files = str(file) if file is not None else os.environ.get("KUBECONFIG") or DEFAULT_FILE
        self._context = context
        self._kept: tuple[float, KubeConfigLoader, Credentials] | None = None
        merged = self._merged()
        try:
            found = merged["contexts"].get_with_name(context or merged["current-context"])["context"]
            self.namespace = str(found.safe_get("namespace") or DEFAULT_NAMESPACE)
            self._plugin = _plugin(merged, found.safe_get("user"))
        except _FAULTS as error:
            raise AccessError(f"{self._files}: {error}") from error

    def read(self) -> Credentials:
        """Read files again; a plugin is asked again only when what it gave has ended. Raises AccessError."""
        if self._kept is not None and not _ended(*self._kept[:2]):
            return self._kept[2]
        configuration: Any = Configuration()
        try:
            loader = _Loader(self._merged(), self._context, config_base_path=None)
            loader.load_and_set(configuration)
            credentials = self._credentials(configuration)
        except _FAULTS as error:
            raise AccessError(f"{self._files}: {error}") from error
        if self._plugin is not None:
            if credentials.authorization is None and credentials.certificate is None:
                # The package only logs that: a request would go out as nobody's.
                raise AccessError(f"{self._files}: {self._plugin} gave no credentials")
            self._kept = (time.monotonic(), loader, credentials)
        return credentials

    def _merged(self) -> Any:
        try:
            merged: Any = _Merger(self._files).config
        except _FAULTS as error:
            raise AccessError(f"{self._files}: {error}") from error
        except Exception as error:  # the package lets errors of its YAML library through
            raise AccessError(f"{self._files}: not YAML: {error}") from error
        if merged is None:
            raise AccessError(f"{self._files}: no such kubeconfig")
        return merged

    def _credentials(self, configuration: Any) -> Credentials:
        ca, certificate = configuration.ssl_ca_cert, (configuration.cert_file, configuration.key_file)
        shown = certificate if all(certificate) else None
        server = str(configuration.host).rstrip("/")
        return Credentials(
            server=server,
            authorization=_bearer(configuration.api_key.get("BearerToken")),
            ca_pem=Path(ca).read_text() if ca else None,
            certificate=shown,
            certificate_content=b"".join(Path(file).read_bytes() for file in shown or ()),
            verify=bool(configuration.verify_ssl),
            server_name=configuration.tls_server_name or None,
            proxy=_proxy(configuration.proxy, server),
        )


def _bearer(header: str | None) -> str | None:
    """Return the header, without what an editor leaves at the end of a file with a token."""
    return header.strip() if header else None


def _proxy(proxy: str | None, server: str) -> str | None:
    bypassed = proxy_bypass(urlsplit(server).hostname or "")
    return None if not proxy or bypassed else str(proxy)


def _plugin(merged: Any, user: str | None) -> str | None:
    """Return what gives the user's credentials where that is a program or a provider."""
    users = merged.safe_get("users")
    found = merged["users"].get_with_name(user, safe=True) if user and users else None
    settings = (found.safe_get("user") if found is not None else None) or {}
    if isinstance(settings.get("exec"), dict):
        return f"exec {settings['exec'].get('command')!r}"
    return "auth-provider" if "auth-provider" in settings else None


def _ended(read_at: float, loader: KubeConfigLoader) -> bool:
    expiry = getattr(loader, "expiry", None)
    if isinstance(expiry, datetime):
        return expiry - _BEFORE_EXPIRY <= datetime.now(UTC)
    return time.monotonic() - read_at > PLUGIN_SECONDS
