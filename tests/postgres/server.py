"""A PostgreSQL server of the tests: in a folder of its own, as nobody, on a Unix socket or on an address."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

NOBODY = 65534
START_SECONDS = 60.0
ROOT = Path(__file__).parents[2]
EXTRACTED = ROOT / "build" / "tools" / "postgresql"
"""What `make tools` has taken out of Debian's packages, with libraries."""
_PLACES = (
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    *sorted(EXTRACTED.glob("usr/lib/postgresql/*/bin"), reverse=True),
)
_SETTINGS = (
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=40",
    "dynamic_shared_memory_type=mmap",  # in its folder: /dev/shm would keep what a killed server had there
)


@dataclass(frozen=True)
class Listener:
    """Where it is reached by TCP: by TLS with this certificate, and by passwords as SCRAM proves them."""

    address: str
    port: int
    certificate: Path
    key: Path


def programs() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None where there is none."""
    return next((place for place in _PLACES if (place / "postgres").exists()), None)


def programs_or_skip(what: str) -> Path:
    """Return that folder, or say that `what` wasn't tried: skips, but in CI, where it fails."""
    found = programs()
    if found is None:
        missing = (
            f"{what} NOT TRIED: there is no PostgreSQL: neither `make tools` nor the distribution gave it"
        )
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class PostgresServer:
    """One server. Each test has a database of its own."""

    def __init__(self, folder: Path, listener: Listener | None = None, within: Path | None = None) -> None:
        """Take the programs' folder. What it writes goes into a new one, `within` another if that is said."""
        self._programs = folder
        self.folder = Path(tempfile.mkdtemp(prefix="policyd-pg-", dir=within))
        self._data = self.folder / "data"
        self._listener = listener
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make its data where there is none, and wait until it answers."""
        if not self._data.exists():
            self._make_data()
        settings = (*_SETTINGS, *self._listening())
        where = ("-D", self._data, "-k", self.folder)
        with (self.folder / "log").open("ab") as log:
            command = self._command("postgres", *where, *(part for each in settings for part in ("-c", each)))
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

    def _make_data(self) -> None:
        share = self._programs.parents[3] / "share" / "postgresql" / self._programs.parent.name
        made = ("-D", self._data, "-U", "policyd", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        trusting = ("--auth-local=trust", "--auth-host=scram-sha-256", "-L", share)
        subprocess.run(self._command("initdb", *made, *trusting), check=True, stdout=subprocess.DEVNULL)
        if self._listener is None:
            return
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write("hostssl all all all scram-sha-256\n")
        for source, name in ((self._listener.certificate, "server.crt"), (self._listener.key, "server.key")):
            copy = self._data / name
            copy.write_bytes(source.read_bytes())
            copy.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(copy, NOBODY, NOBODY)

    def _listening(self) -> tuple[str, ...]:
        if self._listener is None:
            return ("listen_addresses=",)
        return (f"listen_addresses={self._listener.address}", f"port={self._listener.port}", "ssl=on")

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
        """Return the connection string of who may do everything, by the Unix socket."""
        port = "" if self._listener is None else f" port={self._listener.port}"
        return f"host={self.folder} user=policyd dbname={database}{port}"

    def database(self) -> str:
        """Make a database; return its connection string."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return self.connection(name)

    def execute(self, *statements: str) -> None:
        """Do something as who may do everything, each statement by itself."""
        with psycopg.connect(self.connection("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
