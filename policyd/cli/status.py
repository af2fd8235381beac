"""`policyctl status`: which proxy enforces what, of a running `policyctl up`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click

from policyd.cli.exit_codes import ExitCode
from policyd.cli.options import Format, output_option
from policyd.cli.output import print_data, print_table
from policyd.up.run_folder import SOCKET, base_folder
from policyd.up.up_socket import ask_socket

_SHORT = len("sha256:") + 12


@click.command("status")
@output_option
def command(output: Format) -> int:
    """Show each proxy with the table it enforces and the one it should, and what is amiss.

    \b
    Examples:
      policyctl status
      policyctl status -o json
    """  # noqa: D301
    answer = asyncio.run(ask_socket(base_folder() / SOCKET, {"ask": "status"}))
    if output == "table":
        _print(answer)
    else:
        print_data(answer, output)
    return ExitCode.NO if _problems(answer) else ExitCode.DONE


def _print(answer: Mapping[str, Any]) -> None:
    columns = ("pod", "workload", "state", "enforces", "wanted", "detail")
    print_table(columns, [_row(proxy) for proxy in answer.get("proxies", ())])
    for problem in _problems(answer):
        click.echo(problem)


def _row(proxy: Mapping[str, Any]) -> list[str]:
    enforced, wanted = (str(proxy.get(field) or "-")[:_SHORT] for field in ("enforced", "wanted"))
    detail = str(proxy.get("detail") or "-")
    return [
        str(proxy.get("pod")),
        str(proxy.get("workload")),
        str(proxy.get("state")),
        enforced,
        wanted,
        detail,
    ]


def _problems(answer: Mapping[str, Any]) -> list[str]:
    """Say what keeps somebody from enforcing what is written."""
    behind = [proxy for proxy in answer.get("proxies", ()) if proxy.get("enforced") != proxy.get("wanted")]
    return [
        *(str(finding) for finding in answer.get("findings", ())),
        *(f"{pod}: no proxy is connected" for pod in answer.get("notConnected", ())),
        *(f"{proxy.get('pod')}: doesn't enforce the newest table" for proxy in behind),
        *([f"nothing new is enforced: {answer['broken']}"] if answer.get("broken") else ()),
    ]
