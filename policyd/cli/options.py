"""Options that several commands share: one decorator each, and a record of what was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.running import ask_up
from policyd.explain.manifests import Manifests, Place
from policyd.model.names import is_namespace_name, parse_workload
from policyd.resources.instants import read_instant

Command = TypeVar("Command", bound=Callable[..., Any])
Format = Literal["table", "json", "yaml"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where manifests come from, and the namespace of names that say none."""

    paths: tuple[Path, ...]
    namespace: str

    def read(self) -> Manifests:
        """Read the manifests given, else those of the running `policyctl up`. Raises SourceError, Failure."""
        if self.paths:
            return Manifests.read(self.paths)
        try:
            status = ask_up({"ask": "status"})
        except Failure as failure:
            message = "no manifests given: say -f FILE or -f FOLDER, or start `policyctl up`"
            raise Failure(message) from failure
        return Manifests.read([Path(str(status["folder"]))], str(status["trustDomain"]))

    def place(self, manifests: Manifests, workload: str) -> Place:
        """Find the workload that was named. Raises ResourceError for its spelling, else Failure."""
        name = parse_workload(workload, self.namespace)
        place = manifests.place(name)
        if place is None:
            known = [known.text for known in manifests.world.workloads.names()]
            close = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            advice = f"there are {close}" if known else "there are no workloads in the manifests"
            raise Failure(f"no {name.text}: {advice}", ExitCode.NOT_FOUND)
        return place


def source_options(command: Command) -> Command:
    """Add -f and -n; the command gets `files` and `namespace`, to make a Source of."""

    def namespace(_: click.Context, __: click.Parameter, value: str) -> str:
        if not is_namespace_name(value):
            raise click.BadParameter(f"{value!r}: expected lower-case letters, digits and `-`")
        return value

    with_namespace = click.option(
        "-n",
        "--namespace",
        default="default",
        show_default=True,
        metavar="NAMESPACE",
        callback=namespace,
        help="Namespace of names that say none.",
    )
    with_files = click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="File or folder of manifests; may be repeated.  [default: those of the running `policyctl up`]",
    )
    return with_files(with_namespace(command))


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
