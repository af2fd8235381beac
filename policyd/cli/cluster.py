"""The cluster as a command's source: whom to ask, and everything that is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kubeapi.access import Access
from policyd.compile.compiler import DEFAULT_TRUST_DOMAIN
from policyd.explain.manifests import Manifests
from policyd.sources.events import AnyObject

if TYPE_CHECKING:
    from kubeapi.client import Client

_FIELD_MANAGER = "policyctl"
_DEFAULT_KUBECONFIG = Path("~/.kube/config")
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Cluster:
    """A context of a kubeconfig; None: the usual files, the current context. Without any file: this pod's."""

    kubeconfig: Path | None = None
    context: str | None = None

    @property
    def is_there(self) -> bool:
        """Whether anything says where a cluster is."""
        return self._has_file or _IN_A_POD in os.environ

    @property
    def _has_file(self) -> bool:
        named = self.kubeconfig is not None or self.context is not None or bool(os.environ.get("KUBECONFIG"))
        return named or _DEFAULT_KUBECONFIG.expanduser().exists()

    def access(self) -> Access:
        """Return how the API server is reached. Raises AccessError."""
        if not self._has_file and _IN_A_POD in os.environ:
            return Access.in_cluster()
        return Access.kubeconfig(self.kubeconfig, self.context)

    def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Put a question to its API server. Raises ApiError, AccessError."""
        return asyncio.run(self._ask(question))

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Yield a client of its API server. Raises AccessError."""
        from kubeapi.client import Client  # noqa: PLC0415 — as below

        async with Client(self.access(), _FIELD_MANAGER) as client:
            yield client

    async def _ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        async with self.client() as client:
            return await question(client)

    def read(self, trust_domain: str | None) -> tuple[Manifests, str]:
        """Return all that is there, and the context's namespace. Raises ApiError, AccessError.

        Where no trust domain is given it is that of the install, if the user may read its settings.
        """
        access = self.access()
        objects, installed = asyncio.run(_objects(access, trust_domain))
        return Manifests.of(objects, installed or DEFAULT_TRUST_DOMAIN), access.namespace


async def _objects(access: Access, domain: str | None) -> tuple[tuple[AnyObject, ...], str | None]:
    from kubeapi.client import Client  # noqa: PLC0415 — an HTTP client, which other commands don't need
    from policyd.checkup.reading import trust_domain  # noqa: PLC0415
    from policyd.sources.kubernetes.once import read_once  # noqa: PLC0415

    async with Client(access, _FIELD_MANAGER) as client:
        return await read_once(client), domain or await trust_domain(client)


CLUSTER_OPTIONS = (
    click.option("--context", metavar="NAME", help="The cluster of this context of the kubeconfig."),
    click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The cluster of this kubeconfig.  [default: $KUBECONFIG, ~/.kube/config]",
    ),
)
"""What says which cluster: the command gets `context` and `kubeconfig`, to make a Cluster of."""


def cluster_options(command: Command) -> Command:
    """Add --kubeconfig, --context and -n, which is where policyd is installed."""
    option = click.option(
        "-n",
        "--namespace",
        default="policyd",
        show_default=True,
        metavar="NAMESPACE",
        help="Where policyd is installed.",
    )
    return option(access_options(command))


def access_options(command: Command) -> Command:
    """Add --kubeconfig and --context alone."""
    for option in CLUSTER_OPTIONS:
        command = option(command)
    return command
