"""The front of the book shop: passes requests on to books and authors, and its callers' role with them."""

import os

from web import Answer, call, serve

BACKENDS = {"books": os.environ["BOOKS_URL"], "authors": os.environ["AUTHORS_URL"]}


def respond(method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
    """`/` counts both collections; `/books…` and `/authors…` are the backends' business."""
    collection = target.split("?", maxsplit=1)[0].strip("/").split("/")[0]
    passed_on = {"x-role": headers["x-role"]} if "x-role" in headers else {}
    if target == "/":
        answers = {name: call(name, url, "GET", f"/{name}", passed_on) for name, url in BACKENDS.items()}
        worst = max(status for status, _ in answers.values())
        return worst, {name: content for name, (_, content) in answers.items()}
    if collection in BACKENDS:
        return call(collection, BACKENDS[collection], method, target, passed_on, body)
    if collection in {"admin", "status"}:
        return 200, {"backends": sorted(BACKENDS)}
    return 404, {"error": f"nothing at {target}"}


if __name__ == "__main__":
    serve([7000, 7080], respond)
