"""`policyctl completion`: a script for the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from policyd.cli.failures import Failure
from policyd.cli.main import policyctl


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script.

    \b
    Examples:
      source <(policyctl completion bash)
      policyctl completion fish > ~/.config/fish/completions/policyctl.fish
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    found = get_completion_class(shell)
    if found is None:
        raise Failure(f"no completion for {shell}")
    click.echo(found(policyctl, {}, "policyctl", "_POLICYCTL_COMPLETE").source())
