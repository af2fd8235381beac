"""Visitors of the book shop: ask for the same things again and again, and print what they got."""

import itertools
import os
import signal
import sys
import threading

from web import call

REQUESTS = (
    ("GET", "/", {}, b""),
    ("GET", "/books?all=1", {}, b""),
    ("GET", "/authors", {}, b""),
    ("POST", "/books", {"x-role": "editor"}, b'{"id": "3", "title": "Parable of the Sower"}'),
    ("POST", "/books", {}, b'{"id": "4", "title": "Not by an editor"}'),
    ("DELETE", "/books/3", {"x-role": "editor"}, b""),
    ("POST", "/authors", {}, b'{"id": "3", "name": "N. K. Jemisin"}'),
    ("GET", "/admin", {}, b""),
    ("GET", "/internal/debug", {}, b""),
    ("GET", "/nowhere", {}, b""),
)


def main() -> None:
    """Go round until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pause = threading.Event()
    base = f"http://{os.environ['WEBAPP']}"
    interval = float(os.environ.get("INTERVAL_SECONDS", "0.5"))
    for method, target, headers, body in itertools.cycle(REQUESTS):
        call("webapp", base, method, target, headers, body)
        pause.wait(interval)


if __name__ == "__main__":
    main()
