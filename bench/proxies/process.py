"""A process on a core of its own: started, looked at, ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.proxies.programs import Program

_END_SECONDS = 5.0
_CPUCLOCK_SCHED = 2
_TOLD = 500


@dataclass(frozen=True, slots=True)
class Memory:
    """KiB of a process: all that is resident, and what is its own alone."""

    resident: int
    anonymous: int


@contextmanager
def started(
    program: Program, words: Sequence[str], core: int, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on a core while the block lasts; stdout goes to `log`, stderr beside it."""
    command = ["taskset", "--cpu-list", str(core), str(program.path), *words]
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=program.variables
        )
    try:
        yield process
    except TimeoutError as error:
        told = log.with_suffix(".err").read_text(errors="replace")[-_TOLD:].strip()
        raise TimeoutError(f"{error}; {program.path.name} said: {told or 'nothing'}") from error
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End it, first politely."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_nanos(pids: Sequence[int]) -> int:
    """Return the CPU time that processes have used: user and system, all threads, also those that ended."""
    # The clock of another process, as clock_getcpuclockid(3) makes its id.
    return sum(time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


def memory(pid: int) -> Memory:
    """Return what a process has resident now."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {words[0]: int(words[1]) for line in lines if len(words := line.split()) > 1}
    return Memory(fields["Rss:"], fields["Anonymous:"])


def core_busy_seconds(core: int) -> float:
    """Return how long a core has been busy since the machine started, whoever it was."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise LookupError(f"/proc/stat has no cpu{core}")
