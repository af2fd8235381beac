"""What `install` and `upgrade` share: options that choose settings, and printing objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from policyd.cli.output import say
from policyd.install.documents import documents
from policyd.install.places import AUDIT_FOLDER
from policyd.install.settings import InstallSettings

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(command: Command) -> Command:
    """Add --values and --set; the command gets `values` and `assignments`."""
    with_values = click.option(
        "--values",
        "values",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="YAML file of settings; may be repeated, later files count.",
    )
    with_set = click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting, e.g. images.tag=1.2.3; may be repeated.",
    )
    return with_values(with_set(command))


def print_objects(objects: list[dict[str, Any]]) -> None:
    """Print objects as YAML on stdout."""
    click.echo(documents(objects), nl=False)


def say_secret(settings: InstallSettings) -> None:
    """Say how the Secret is made by which policyd reaches PostgreSQL: pods wait for it."""
    verified = f"sslmode=verify-full sslrootcert={AUDIT_FOLDER}/root.crt"
    say(
        f"# The Secret {settings.audit.secret} has to be there before policyd starts:",
        f"#   kubectl -n {settings.namespace} create secret generic {settings.audit.secret} \\",
        "#     --from-file=root.crt=CA-OF-THE-DATABASE.crt \\",
        f"#     --from-literal=connection='host=… dbname=policyd user=… password=… {verified}'",
    )
