"""The `policyctl` command: finds the module of a subcommand when it is asked for, and no other."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import click

from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure, failure_of

COMMANDS = {
    "audit": "Check that nobody changed the audit store.",
    "check": "Say what is wrong with manifests, or with a cluster.",
    "compile": "Show a workload's rule table.",
    "completion": "Print a completion script for a shell.",
    "denials": "Say who was denied what, and how often.",
    "demo": "Run a small mesh on this machine, and show what policy does there.",
    "explain": "Say whether a request is allowed, which rule decides, and what would change it.",
    "inject": "Give the pods of manifests their proxy.",
    "install": "Print all that is to be installed into a cluster.",
    "routes": "Show who may call what of a workload.",
    "status": "Say what a running `policyctl up` enforces.",
    "test": "Run PolicyTest files.",
    "uninject": "Take out of manifests what `inject` put there.",
    "uninstall": "Print everything that was installed, to delete it.",
    "up": "Run a folder's workloads with their proxies on loopback.",
    "upgrade": "Print an install as this version has it.",
}
"""Each is a module beside this one with a `command`; help texts are here so that `--help` imports none."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands whose module is there."""
        del ctx
        return [name for name in sorted(COMMANDS) if _module_of(name) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        module = _module_of(cmd_name)
        if module is None:
            return None
        found = importlib.import_module(module).command
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what commands there are where one isn't known."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(f"no command {args[0]!r}: expected one of {', '.join(self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _module_of(name: str) -> str | None:
    if name not in COMMANDS:
        return None
    module = f"policyd.cli.{name}"
    return module if importlib.util.find_spec(module) else None


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="policyd", prog_name="policyctl", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def policyctl(ctx: click.Context, debug: bool) -> None:
    """Policy and zero-trust authorization: ask, check, test and run it.

    \b
    Examples:
      policyctl check -f policies/books
      policyctl test policies/
      policyctl explain -f policies/books --to deployment/books/authors:http --from deployment/books/webapp
    """  # noqa: D301  # \b is click's mark for lines that stay as they are  # \b is click's mark for a paragraph that keeps its lines
    ctx.obj = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `policyctl` and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Run `policyctl` and return its exit code; only --debug lets an exception through."""
    debug = "--debug" in arguments
    try:
        code: Any = policyctl.main(args=arguments, prog_name="policyctl", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        click.echo("policyctl: interrupted", err=True)
        return 130
    except BrokenPipeError:
        _close_stdout()
        return ExitCode.DONE
    except click.ClickException as error:
        error.show()
        return error.code if isinstance(error, Failure) else error.exit_code
    except Exception as error:
        if debug:
            raise
        return _unexpected(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _unexpected(error: Exception) -> int:
    failure = failure_of(error)
    if failure is None:
        click.echo(f"policyctl: {type(error).__name__}: {error} (a bug; --debug shows where)", err=True)
        return ExitCode.USAGE
    failure.show()
    return failure.code


def _close_stdout() -> None:
    """Whoever read us went away: nothing more can be said, and Python must not try at exit."""
    try:
        sys.stdout.close()
    except BrokenPipeError:
        sys.stderr.close()


if __name__ == "__main__":
    main()
