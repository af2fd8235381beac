"""`policyctl up DIR`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from policyd.errors import SourceError
from policyd.up.run import running, until_interrupted
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
    asyncio.run(_up(folder, Screen(quiet, verbose)))


async def _up(folder: Path, screen: Screen) -> None:
    """Run until interrupted, also while it begins: then too everything is ended."""
    interrupted = asyncio.create_task(until_interrupted())
    run = asyncio.create_task(_run(folder, screen))
    await asyncio.wait({interrupted, run}, return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    if not run.done():
        screen.say("ending")
        run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def _run(folder: Path, screen: Screen) -> None:
    async with running(folder, screen) as started:
        try:
            await started.all_ready(READY_SECONDS)
        except SourceError as error:
            screen.problem(str(error))  # what isn't ready may become so: that is for whoever watches to judge
        else:
            count = len(started.kubelet.replicas)
            screen.say(f"{count} pods are ready; edit {started.folder} and see; Ctrl-C ends it")
        await asyncio.Event().wait()
