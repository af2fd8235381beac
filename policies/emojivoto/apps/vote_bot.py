"""A visitor who never tires: votes on the site, and now and then tries what it had better not."""

import asyncio
import contextlib
import os

import http1
import rpc

ON_THE_SITE = (
    "/api/list",
    "/api/vote?choice=:doughnut:",
    "/api/vote?choice=:ghost:",
    "/api/vote?choice=:poop:",
    "/api/leaderboard",
)
PAST_THE_SITE = ("Results", "VoteGhost")


async def visit(voting: rpc.Caller) -> None:
    """Go round for ever."""
    interval = float(os.environ.get("INTERVAL_SECONDS", "0.5"))
    while True:
        for target in ON_THE_SITE:
            await asyncio.to_thread(http1.get, "web", os.environ["WEB_HOST"], target)
            await asyncio.sleep(interval)
        for method in PAST_THE_SITE:
            with contextlib.suppress(rpc.CallError):
                await voting.call(method)
            await asyncio.sleep(interval)
        await asyncio.to_thread(http1.get, "voting", os.environ["VOTINGSVC_PROM"], "/metrics")
        await asyncio.sleep(interval)


async def main() -> None:
    """Visit until SIGTERM."""
    voting = rpc.Caller("voting", os.environ["VOTINGSVC_HOST"], rpc.VOTING_SERVICE)
    visiting = asyncio.create_task(visit(voting))
    await rpc.until_terminated()
    visiting.cancel()
    voting.close()


if __name__ == "__main__":
    asyncio.run(main())
