"""Options of commands that speak with a cluster, and what its refusals mean to the caller."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from kubeapi.access import SERVICE_ACCOUNT, Access
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure

FIELD_MANAGER = "policyctl"
DEFAULT_FILE = Path("~/.kube/config")
T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster: a kubeconfig and a context, or what `kubectl` would take."""

    kubeconfig: Path | None = None
    context: str | None = None

    @property
    def named(self) -> bool:
        """Whether somebody said which."""
        return self.kubeconfig is not None or self.context is not None

    @property
    def is_there(self) -> bool:
        """Whether anything says where a cluster is."""
        known = (os.environ.get("KUBECONFIG"), DEFAULT_FILE.expanduser().exists(), SERVICE_ACCOUNT.exists())
        return self.named or any(known)

    def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Put a question to it. Raises Failure: 3 where nobody answers, 4 where it isn't allowed."""
        try:
            return asyncio.run(self._ask(question))
        except AccessError as error:
            raise Failure(str(error), ExitCode.UNREACHABLE) from error
        except ApiError as error:
            raise failure_of_api(error) from error

    async def _ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        async with Client(self._access(), FIELD_MANAGER) as client:
            return await question(client)

    def _access(self) -> Access:
        chosen = self.named or os.environ.get("KUBECONFIG") or DEFAULT_FILE.expanduser().exists()
        if not chosen and SERVICE_ACCOUNT.exists():
            return Access.in_cluster()
        return Access.kubeconfig(self.kubeconfig, self.context)


def failure_of_api(error: ApiError) -> Failure:
    """Return what an answer of the API server means to the caller (CL-01)."""
    if error.unreachable:
        return Failure(f"the API server can't be reached: {error.message}", ExitCode.UNREACHABLE)
    if error.not_allowed:
        return Failure(f"the API server refuses: {error.message}", ExitCode.FORBIDDEN)
    if error.not_found:
        return Failure(error.message, ExitCode.NOT_FOUND)
    return Failure(f"the API server: {error}", ExitCode.NO)


def cluster_options(command: Command) -> Command:
    """Add --kubeconfig and --context; the command gets `kubeconfig` and `context`, to make a Cluster of."""
    with_file = click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File with the cluster's address and credentials.  [default: $KUBECONFIG, ~/.kube/config]",
    )
    with_context = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
    return with_file(with_context(command))


def control_plane_option(command: Command) -> Command:
    """Add -n; the command gets `namespace`, the control plane's."""
    option = click.option(
        "-n",
        "--namespace",
        default="policyd",
        show_default=True,
        metavar="NAMESPACE",
        help="Where policyd is installed.",
    )
    return option(command)
