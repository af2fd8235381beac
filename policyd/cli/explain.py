"""`policyctl explain`: whether a request is allowed, which rule decides, and what would change it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from policyd.cli.api_audit_log import NO_CLUSTER, api_audit_log_option, with_logs
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.options import Format, Instant, Source, now, output_option, source_options
from policyd.cli.output import console, print_data
from policyd.cli.recorded_denial import recorded_report
from policyd.cli.trail import store_option, trail
from policyd.engine import check_identity
from policyd.errors import IdentityFormError, ResourceError
from policyd.explain.manifests import Manifests, Place
from policyd.explain.question import (
    DEFAULT_IP,
    Caller,
    Question,
    account_identity,
    grpc_request,
    http_request,
    port_number,
)
from policyd.explain.render import render
from policyd.explain.report import Report, report
from policyd.model.names import parse_workload


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value!r}: expected an IP address") from None


def _headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        name, colon, text = value.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{value!r}: expected NAME: VALUE")
        pairs.append((name.strip(), text.strip()))
    return pairs


@click.command("explain")
@click.argument("identifier", required=False, metavar="[ID]")
@click.option("--to", metavar="WORKLOAD:PORT", help="Who is called; PORT is a number or a name.")
@click.option(
    "--from",
    "caller",
    metavar="CALLER",
    help="serviceAccount:NAMESPACE/NAME, a workload, spiffe://…, or anonymous.",
)
@click.option("--ip", default=DEFAULT_IP, show_default=True, callback=_address, help="The caller's address.")
@click.option("--method", default="GET", show_default=True, help="HTTP method.")
@click.option("--path", default="/", show_default=True, help="Path as sent, with its query.")
@click.option("--host", help="Host as sent.  [default: the workload's name]")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME: VALUE", callback=_headers, help="May be repeated."
)
@click.option("--grpc", metavar="SERVICE/METHOD", help="A gRPC call in the place of an HTTP request.")
@click.option("--tcp", is_flag=True, help="Bytes that are not HTTP.")
@click.option("--at", type=Instant(), help="When (RFC 3339).  [default: now]")
@store_option
@api_audit_log_option
@source_options
@output_option
def command(
    identifier: str | None,
    store: Path | None,
    logs: tuple[Path, ...],
    source: Source,
    output: Format,
    **asked: Any,
) -> int:
    """Decide a request with the engine that enforces, and say why.

    Shows the rule that decides with the place it was written at, or the grants that came nearest, and the
    smallest change of the manifests that would allow a denied request, with what else it would allow.
    With the ID of a denial (or at least 8 characters of its beginning, or the line that a proxy wrote): the
    same, on the very table that denied it, and what was changed since such a request was last allowed.
    With --api-audit-log: also which user made these changes, from where, if the API server logged it.
    Exits with 0 if the request is allowed, with 1 if it is denied, with 5 if no such denial is kept.

    \b
    Examples:
      policyctl explain -f policies/books -n books --to deploy/authors:http --from serviceAccount:books/webapp
      policyctl explain -f policies/books --to deployment/books/db:5432 --from anonymous --tcp
      policyctl explain -f policies/emojivoto --to deployment/emojivoto/voting:grpc \\
        --from deployment/emojivoto/web --grpc emojivoto.v1.VotingService/VoteDoughnut -o json
      policyctl explain 019ab1c2-7d5e-7f00-8a8b-1c2d3e4f5a6b
      policyctl explain 019ab1c2-7d5e --store /var/lib/policyd/audit -f policies/books
      policyctl explain 019ab1c2-7d5e -n books --api-audit-log /var/log/kubernetes/audit.log
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    answer = (
        asked_report(source, **asked)
        if identifier is None
        else recorded_report(identifier, source, trail(store, source.cluster, source.named))
    )
    if logs and identifier is None and source.asked is None:
        raise Failure(NO_CLUSTER)
    answer = with_logs(answer, logs)
    if output == "table":
        render(answer, console())
    else:
        print_data(answer.data(), output)
    return ExitCode.DONE if answer.decision.allowed else ExitCode.NO


def asked_report(
    source: Source, *, to: str | None, caller: str | None, ip: str, at: datetime | None, **request: Any
) -> Report:
    """Return the report on what the options ask. Raises Failure, ResourceError, SourceError."""
    if to is None or caller is None:
        raise Failure("expected the ID of a denial, or --to WORKLOAD:PORT and --from CALLER")
    workload, colon, port = to.rpartition(":")
    if not colon:
        raise Failure(f"--to {to!r}: expected WORKLOAD:PORT")
    manifests = source.read()
    place = source.place(manifests, workload)
    identity = identity_of(manifests, caller, source.namespace)
    encoded = Requested(**request).encode(place)
    number = port_number(port, place.shape)
    return report(manifests, place, Question(number, at or now(), Caller(ip, identity), encoded))


def identity_of(manifests: Manifests, caller: str, namespace: str) -> str | None:
    """Return the SPIFFE ID of a caller as spelled on the command line. Raises ResourceError."""
    domain = manifests.compiler.trust_domain
    if caller == "anonymous":
        return None
    if caller.startswith("spiffe://"):
        try:
            check_identity(caller)
        except IdentityFormError as error:
            raise ResourceError(f"--from {caller!r}: {error}") from error
        if caller.endswith("/*"):
            raise ResourceError(f"--from {caller!r}: expected one identity, not a form that stands for many")
        return caller
    for prefix in ("serviceAccount:", "sa:"):
        if caller.startswith(prefix):
            account = caller.removeprefix(prefix)
            return account_identity(account if "/" in account else f"{namespace}/{account}", domain)
    place = manifests.place(parse_workload(caller, namespace)) if "/" in caller else None
    if place is None or place.shape is None:
        expected = "serviceAccount:NAMESPACE/NAME, a workload of the manifests, spiffe://…, or anonymous"
        raise ResourceError(f"--from {caller!r}: expected {expected}")
    return account_identity(f"{place.workload.namespace}/{place.shape.service_account}", domain)


@dataclass(frozen=True, slots=True)
class Requested:
    """The request that the options describe."""

    method: str
    path: str
    host: str | None
    headers: list[tuple[str, str]]
    grpc: str | None
    tcp: bool

    def encode(self, place: Place) -> dict[str, object]:
        """Return it as a question has it. Raises Failure where the options contradict each other."""
        if self.tcp and self.grpc:
            raise Failure("--tcp and --grpc: expected at most one of them")
        if self.tcp:
            return {"tcp": {"silent": False}}
        authority = self.host or place.workload.name
        if self.grpc is None:
            return http_request(self.method, self.path, authority, self.headers)
        service, slash, name = self.grpc.strip("/").partition("/")
        if not slash or not name or "/" in name:
            raise Failure(f"--grpc {self.grpc!r}: expected SERVICE/METHOD")
        return grpc_request(service, name, authority, self.headers)
