"""The site: HTTP/1.1 on port 8080, which asks emoji and voting over gRPC.

GET /api/list                     → each emoji by its shortcode
GET /api/vote?choice=<shortcode>  → votes for it
GET /api/leaderboard              → the votes
"""

import asyncio
import os
from urllib.parse import parse_qs, urlsplit

import http1
import rpc

TIMEOUT_SECONDS = 10.0


class Site:
    """Turns requests into calls; where a call isn't answered with OK the visitor learns its decision's id."""

    def __init__(self) -> None:
        self._emoji = rpc.Caller("emoji", os.environ["EMOJISVC_HOST"], rpc.EMOJI_SERVICE)
        self._voting = rpc.Caller("voting", os.environ["VOTINGSVC_HOST"], rpc.VOTING_SERVICE)

    async def respond(self, target: str) -> http1.Answer:
        """Answer one GET."""
        parts = urlsplit(target)
        choice = parse_qs(parts.query).get("choice", [""])[0]
        try:
            if parts.path == "/api/list":
                return 200, await self._emoji.call("ListAll")
            if parts.path == "/api/leaderboard":
                return 200, await self._voting.call("Results")
            if parts.path == "/api/vote":
                found = await self._emoji.call("FindByShortcode", {"shortcode": choice})
                return 200, {**found, **await self._voting.call(f"Vote{choice.strip(':').title()}")}
        except rpc.CallError as error:
            return 502, {"error": str(error), "decision": error.decision}
        return 404, {"error": f"nothing at {target}"}

    def close(self) -> None:
        """End its connections."""
        self._emoji.close()
        self._voting.close()


async def main() -> None:
    """Serve until SIGTERM."""
    site, loop = Site(), asyncio.get_running_loop()

    def respond(target: str) -> http1.Answer:
        if target == "/":
            return 200, "Vote for your favourite emoji at /api/vote?choice=:doughnut:\n"
        return asyncio.run_coroutine_threadsafe(site.respond(target), loop).result(TIMEOUT_SECONDS)

    http1.serve(8080, respond)
    await rpc.until_terminated()
    site.close()


if __name__ == "__main__":
    asyncio.run(main())
