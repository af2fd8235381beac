"""Where the API server is, how it proves who it is, and who we are. All of it changes while we run."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from kubeapi.credentials import DEFAULT_NAMESPACE, Credentials
from kubeapi.errors import AccessError

REREAD_SECONDS = 30.0
"""How old what was read may become; once a minute is the official advice for tokens."""
LEAST_REREAD_SECONDS = 1.0
"""How soon a refusal (401) may cause another reading."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_log = structlog.get_logger()


Reading = Callable[[], Credentials]


class Access:
    """Credentials that are read again before they are old. `current` is what a request uses."""

    def __init__(self, read: Reading, namespace: str = DEFAULT_NAMESPACE) -> None:
        """`read` may block, and raises AccessError; it is called in a thread."""
        self.namespace = namespace
        """The namespace of the pod or of the kubeconfig's context."""
        self._read = read
        self._credentials: Credentials | None = None
        self._context: ssl.SSLContext | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    @classmethod
    def in_cluster(cls, folder: Path = SERVICE_ACCOUNT, environ: Mapping[str, str] | None = None) -> Access:
        """Read the pod's own service account. Raises AccessError where this is no pod."""
        server = _server_from(os.environ if environ is None else environ)
        namespace = folder / "namespace"
        try:
            name = namespace.read_text().strip() if namespace.exists() else DEFAULT_NAMESPACE
        except OSError as error:
            raise AccessError(f"{namespace}: {error.strerror}") from error
        return cls(lambda: _service_account(folder, server), name)

    @classmethod
    def kubeconfig(cls, file: Path | None = None, context: str | None = None) -> Access:
        """Read a kubeconfig (default: `$KUBECONFIG`, `~/.kube/config`). Raises AccessError."""
        from kubeapi.kubeconfig import Kubeconfig  # noqa: PLC0415 — 45 MB that a pod doesn't need

        config = Kubeconfig(file, context)
        return cls(config.read, config.namespace)

    async def current(self) -> Credentials:
        """Return what holds now. What can't be read again stays as it was. Raises AccessError at first."""
        if time.monotonic() - self._read_at < REREAD_SECONDS and self._credentials is not None:
            return self._credentials
        return await self._refresh(REREAD_SECONDS)

    async def reread(self) -> Credentials:
        """Read again, because what was read was refused."""
        return await self._refresh(LEAST_REREAD_SECONDS)

    def tls(self, credentials: Credentials) -> ssl.SSLContext:
        """Return the TLS context of these credentials; another where CA or certificate changed."""
        if self._context is None:
            self._context = _tls(credentials)
        return self._context

    async def _refresh(self, oldest: float) -> Credentials:
        async with self._lock:
            if self._credentials is not None and time.monotonic() - self._read_at < oldest:
                return self._credentials
            try:
                found = await asyncio.to_thread(self._read)
                context = self._context if _same_tls(found, self._credentials) else _tls(found)
            except AccessError as error:
                if self._credentials is None:
                    raise
                _log.warning("credentials_not_read_again", problem=str(error))
            else:
                self._credentials, self._context = found, context
            self._read_at = time.monotonic()
            return self._credentials


def _server_from(environ: Mapping[str, str]) -> str:
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise AccessError("KUBERNETES_SERVICE_HOST and _PORT aren't set: this is no pod; name a kubeconfig")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _service_account(folder: Path, server: str) -> Credentials:
    token, ca = _text(folder / "token").strip(), _text(folder / "ca.crt")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise AccessError(f"{folder / 'token'}: expected a token")
    return Credentials(server, f"Bearer {token}", ca)


def _text(file: Path) -> str:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"{file}: {error}") from error
    if not text.strip():
        raise AccessError(f"{file}: empty")
    return text


def _same_tls(one: Credentials, other: Credentials | None) -> bool:
    return other is not None and (one.ca_pem, one.certificate, one.certificate_content, one.verify) == (
        other.ca_pem,
        other.certificate,
        other.certificate_content,
        other.verify,
    )


def _tls(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=credentials.ca_pem)
        if credentials.certificate is not None:
            context.load_cert_chain(*credentials.certificate)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise AccessError(f"the API server's CA or our certificate: {error}") from error
    if not credentials.verify:  # the kubeconfig says so, in as many words
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
