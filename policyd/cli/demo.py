"""`policyctl demo`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from policyd.cli.failures import Failure
from policyd.up.demo import run_demo
from policyd.up.run import until_interrupted

_SAMPLES = Path(__file__).resolve().parents[2] / "policies" / "emojivoto"


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave it running at the end, until Ctrl-C.")
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    default=_SAMPLES,
    metavar="DIR",
    help="The folder policies/emojivoto of a clone.  [default: this one's]",
)
def command(keep: bool, samples: Path) -> None:
    """Run a small mesh on this machine, and show what policy does there; it ends by itself.

    \b
    Examples:
      policyctl demo
      policyctl demo --keep
    """  # noqa: D301  # \b is click's mark for a paragraph that keeps its lines
    if not samples.is_dir():
        raise Failure(f"{samples}: no such folder: give --samples the folder policies/emojivoto of a clone")
    asyncio.run(_demo(samples, keep))


async def _demo(samples: Path, keep: bool) -> None:
    """Run until it is over or interrupted; either way everything is ended."""
    interrupted = asyncio.create_task(until_interrupted())
    demo = asyncio.create_task(run_demo(samples, keep))
    await asyncio.wait({interrupted, demo}, return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    if not demo.done():
        demo.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await demo
