"""The emoji there are: gRPC on port 8080, metrics on 8801."""

import asyncio

import http1
import rpc
from grpclib.const import Status
from grpclib.exceptions import GRPCError

EMOJI = {":doughnut:": "🍩", ":ghost:": "👻", ":poop:": "💩"}


def list_all(_request: rpc.Message) -> rpc.Message:
    """Return each emoji by its shortcode."""
    return dict(EMOJI)


def find_by_shortcode(request: rpc.Message) -> rpc.Message:
    """`{"shortcode": ":ghost:"}` → `{"unicode": "👻"}`."""
    found = EMOJI.get(request.get("shortcode", ""))
    if found is None:
        raise GRPCError(Status.NOT_FOUND, "no such emoji")
    return {"unicode": found}


if __name__ == "__main__":
    service = rpc.Service(rpc.EMOJI_SERVICE, {"ListAll": list_all, "FindByShortcode": find_by_shortcode})
    http1.serve_metrics(8801, service.calls)
    asyncio.run(rpc.serve(service, 8080))
