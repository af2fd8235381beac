"""`policyctl audit verify`: whether anybody changed the audit store."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from policyd import engine
from policyd.audit.verify import Result, verify, verify_trail
from policyd.audit.verify_heads import Finding
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, output_option
from policyd.cli.output import console, print_data
from policyd.cli.running import ask_up
from policyd.explain.readable import printable


@click.group("audit")
def command() -> None:
    """Look after the audit store.

    \b
    Example:
      policyctl audit verify --store /var/lib/policyd/audit
    """  # noqa: D301  # \b is click's mark for lines that stay as they are


@command.command("verify")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The store's folder.  [default: that of the running `policyctl up`]",
)
@click.option(
    "--roots",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="PEM: whom policyd's certificate must lead to.  [default: those of the running `policyctl up`]",
)
@click.option(
    "--postgres",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A store in PostgreSQL: a file with its connection string.",
)
@output_option
def verify_command(store: Path | None, roots: Path | None, postgres: Path | None, output: Format) -> int:
    """Check every record of a store against its chain, and the ends of all chains against what was signed.

    Finds edited, deleted, swapped and inserted records, shortened chains, deleted files, and a database that
    was rolled back. Names the chain and the first sequence that is wrong. Needs no secret, and may run beside
    policyd. Exits with 0 if nothing was changed (denials that proxies say were lost are told, and no fault),
    with 1 if something was, with 5 if there is no store.

    \b
    Examples:
      policyctl audit verify
      policyctl audit verify --store /var/lib/policyd/audit --roots roots.pem
      policyctl audit verify --postgres connection.txt --roots roots.pem
      policyctl audit verify -o json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    if postgres is not None:
        return _verify_postgres(postgres, () if roots is None else _roots(roots), output)
    folder, trusted = _places(store, roots)
    if not any((folder / name).exists() for name in ("audit.sqlite", "heads.jsonl")):
        raise Failure(f"{folder}: no audit store", ExitCode.NOT_FOUND)
    return _say(str(folder), verify(folder, engine.version, trusted), output)


def _verify_postgres(connection: Path, roots: tuple[bytes, ...], output: Format) -> int:
    from policyd.audit.verify_postgres import PostgresTrail  # noqa: PLC0415 — a database's client

    if not connection.is_file():
        raise Failure(f"{connection}: no such file", ExitCode.NOT_FOUND)
    return _say("postgresql", verify_trail(PostgresTrail(connection), engine.version, roots), output)


def _say(where: str, result: Result, output: Format) -> int:
    if output == "table":
        _print(where, result)
    else:
        print_data({"verdict": result.verdict, **msgspec.to_builtins(result)}, output)
    return ExitCode.NO if result.tampered else ExitCode.DONE


def _places(store: Path | None, roots: Path | None) -> tuple[Path, tuple[bytes, ...]]:
    """Return the folder and the roots. Raises Failure where neither is given nor an `up` runs."""
    if store is not None:
        return store, () if roots is None else _roots(roots)
    status = ask_up({"ask": "status"})
    found = status.get("audit") or {}
    if not found.get("folder"):
        raise Failure("the running `policyctl up` keeps no audit store", ExitCode.NOT_FOUND)
    return Path(str(found["folder"])), _roots(roots or Path(str(status["rootsFile"])))


def _roots(file: Path) -> tuple[bytes, ...]:
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except ValueError as error:
        raise Failure(f"{file}: expected certificates in PEM: {error}") from error
    return tuple(each.public_bytes(Encoding.DER) for each in found)


def _print(where: str, result: Result) -> None:
    out = console()
    for finding in result.tampered:
        out.print(printable(f"changed  {_text(finding)}"), style="red", markup=False, soft_wrap=True)
    for finding in result.notes:
        out.print(printable(f"note     {_text(finding)}"), style="yellow", markup=False, soft_wrap=True)
    verdict = "somebody changed it" if result.tampered else "nobody changed it"
    style = "bold red" if result.tampered else "bold green"
    counted = f"{result.records} records in {result.chains} chains, {result.lost} said to be lost"
    out.print(f"{where}: {verdict}: {counted}", style=style, markup=False, soft_wrap=True)


def _text(finding: Finding) -> str:
    where = "" if finding.chain is None else f"chain {finding.chain} from sequence {finding.sequence}: "
    return f"{where}{finding.text}{f': {finding.detail}' if finding.detail else ''}"
