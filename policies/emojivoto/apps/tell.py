"""How the applications of this sample say whom they called and what came of it: a line of JSON each."""

import json
import sys


def tell(callee: str, request: str, decision: str | None, **outcome: int | None) -> None:
    """Print a call; `outcome` is `status` (HTTP) or `grpcStatus`, None where there was no answer."""
    line: dict[str, object] = {"called": callee, "request": request, **outcome}
    if decision is not None:
        line["decision"] = decision
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
