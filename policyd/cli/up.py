"""`policyctl up DIR`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from policyd.up.run import Running, run_up, until_interrupted
from policyd.up.screen import Screen

READY_SECONDS = 60.0


@click.command("up")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("-q", "--quiet", is_flag=True, help="Leave out what applications print.")
@click.option("-v", "--verbose", is_flag=True, help="Show every line of identity, policyd and the proxies.")
def command(folder: Path, quiet: bool, verbose: bool) -> None:
    """Run the workloads of a folder of manifests on this machine, each with its proxy, until Ctrl-C.

    \b
    Example:
      policyctl up policies/books
    """  # noqa: D301  # \b is click's mark for a paragraph that keeps its lines
    screen = Screen(quiet, verbose)
    asyncio.run(run_up(folder, screen, lambda running: _until_over(running, screen)))


async def _until_over(running: Running, screen: Screen) -> None:
    telling = asyncio.create_task(_tell_when_ready(running, screen))
    try:
        await until_interrupted(running)
    finally:
        telling.cancel()
        screen.say("ending")


async def _tell_when_ready(running: Running, screen: Screen) -> None:
    await running.all_ready(READY_SECONDS)
    screen.say(
        f"{len(running.kubelet.replicas)} pods are ready; edit {running.folder} and see; Ctrl-C ends it"
    )
