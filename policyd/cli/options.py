"""Options that several commands share: one decorator each, and a record of what was given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import click

from policyd.cli.cluster import CLUSTER_OPTIONS, Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.running import ask_up
from policyd.compile.compiler import DEFAULT_TRUST_DOMAIN
from policyd.explain.manifests import Manifests, Place
from policyd.model.names import is_namespace_name, parse_workload
from policyd.resources.instants import read_instant
from policyd.resources.metadata import DEFAULT_NAMESPACE

Command = TypeVar("Command", bound=Callable[..., Any])
Format = Literal["table", "json", "yaml"]
NO_SOURCE = (
    "no manifests given: say -f FILE or -f FOLDER, name a cluster with --context, or start `policyctl up`"
)
TWO_SOURCES = "files and a cluster: expected one of them, since the whole world is read from there"


@dataclass(slots=True)
class Source:
    """Where the world comes from: files, a cluster, or else the running `policyctl up`."""

    paths: tuple[Path, ...] = ()
    cluster: Cluster | None = None
    """The cluster that was named."""
    named: str | None = None
    """The namespace that was named."""
    _of_context: str = DEFAULT_NAMESPACE
    asked: Cluster | None = None
    """The cluster that was read, named or not."""

    @property
    def namespace(self) -> str:
        """The namespace of names that say none; of a cluster's context once that was read."""
        return self.named or self._of_context

    def also(self, paths: tuple[Path, ...]) -> Source:
        """Return the source with more files."""
        return Source((*self.paths, *paths), self.cluster, self.named)

    def read(self, trust_domain: str | None = None) -> Manifests:
        """Read it all once. `trust_domain` where that is known from elsewhere.

        With neither files nor a cluster named, what runs counts: `policyctl up`, else the kubeconfig's
        cluster. Raises SourceError, Failure, ApiError, AccessError.
        """
        if self.paths and self.cluster is not None:
            raise Failure(TWO_SOURCES)
        if self.paths:
            return Manifests.read(self.paths, trust_domain or DEFAULT_TRUST_DOMAIN)
        if self.cluster is None:
            try:
                status = ask_up({"ask": "status"})
            except Failure as failure:
                if not Cluster().is_there:
                    raise Failure(NO_SOURCE) from failure
            else:
                domain = trust_domain or str(status["trustDomain"])
                return Manifests.read([Path(str(status["folder"]))], domain)
        self.asked = self.cluster or Cluster()
        manifests, self._of_context = self.asked.read(trust_domain)
        return manifests

    def place(self, manifests: Manifests, workload: str) -> Place:
        """Find the workload that was named. Raises ResourceError for its spelling, else Failure."""
        name = parse_workload(workload, self.namespace)
        place = manifests.place(name)
        if place is None:
            known = [known.text for known in manifests.world.workloads.names()]
            close = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            advice = f"there are {close}" if known else "there are no workloads"
            raise Failure(f"no {name.text}: {advice}", ExitCode.NOT_FOUND)
        return place


def _namespace(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_namespace_name(value):
        raise click.BadParameter(f"{value!r}: expected lower-case letters, digits and `-`")
    return value


_SOURCE_OPTIONS = (
    click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="File or folder of manifests; may be repeated.  [default: those of the running `policyctl up`]",
    ),
    *CLUSTER_OPTIONS,
    click.option(
        "-n",
        "--namespace",
        metavar="NAMESPACE",
        callback=_namespace,
        help="Namespace of names that say none.  [default: the context's, or `default`]",
    ),
)


def source_options(command: Command) -> Command:
    """Add -f, --context, --kubeconfig and -n; the command gets `source`."""

    @functools.wraps(command)
    def with_source(
        *args: Any,
        files: tuple[Path, ...],
        context: str | None,
        kubeconfig: Path | None,
        namespace: str | None,
        **others: Any,
    ) -> Any:
        named = kubeconfig is not None or context is not None
        cluster = Cluster(kubeconfig, context) if named else None
        return command(*args, source=Source(files, cluster, namespace), **others)

    made: Any = with_source
    for option in reversed(_SOURCE_OPTIONS):
        made = option(made)
    return cast("Command", made)


def output_option(command: Command) -> Command:
    """Add -o; the command gets `output: Format`."""
    choice = click.Choice(["table", "json", "yaml"])
    option = click.option(
        "-o", "--output", type=choice, default="table", show_default=True, help="How to print the answer."
    )
    return option(command)


class Instant(click.ParamType[datetime]):
    """An RFC 3339 instant."""

    name = "INSTANT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return it in UTC."""
        try:
            return read_instant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def now() -> datetime:
    """Return the time of questions that say none."""
    return datetime.now(UTC)
