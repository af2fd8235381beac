"""A PostgreSQL server of the tests: in a folder of its own, on a Unix socket, as nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

NOBODY = 65534
START_SECONDS = 60.0
ROOT = Path(__file__).parents[4]
EXTRACTED = ROOT / "build" / "tools" / "postgresql"
"""What `make tools` has taken out of Debian's packages, with libraries."""
_PLACES = (
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    *sorted(EXTRACTED.glob("usr/lib/postgresql/*/bin"), reverse=True),
)


def programs() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None where there is none."""
    return next((place for place in _PLACES if (place / "postgres").exists()), None)


class PostgresServer:
    """One server. Each test has a database of its own."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        self.folder = Path(tempfile.mkdtemp(prefix="policyd-pg-"))
        self._data = self.folder / "data"
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make its data where there is none, and wait until it answers."""
        if not self._data.exists():
            share = self._programs.parents[3] / "share" / "postgresql" / self._programs.parent.name
            words = ["initdb", "-D", self._data, "-U", "policyd", "-A", "trust", "--no-sync", "-E", "UTF8"]
            subprocess.run(
                self._command(*words, "--locale=C.UTF-8", "-L", share), check=True, stdout=subprocess.DEVNULL
            )
        settings = ("listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=40")
        words = ["postgres", "-D", self._data, "-k", self.folder]
        with (self.folder / "log").open("ab") as log:
            command = self._command(*words, *(part for each in settings for part in ("-c", each)))
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.connection("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return

    def _command(self, program: str, *words: object) -> list[str]:
        libraries = ":".join(map(str, EXTRACTED.glob("usr/lib/*-linux-gnu")))
        found = ["env", f"LD_LIBRARY_PATH={libraries}"] if EXTRACTED in self._programs.parents else []
        apart = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return [
            *(apart if os.geteuid() == 0 else []),
            *found,
            str(self._programs / program),
            *map(str, words),
        ]

    def stop(self, *, at_once: bool = False) -> None:
        """End it; `at_once`: as a machine that loses power, as far as that can be had."""
        if self._process is not None:
            (self._process.kill if at_once else self._process.terminate)()
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """End it, and take its folder away."""
        self.stop(at_once=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def connection(self, database: str) -> str:
        """Return a connection string."""
        return f"host={self.folder} user=policyd dbname={database}"

    def database(self) -> str:
        """Make a database; return its connection string."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.connection("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.connection(name)
