"""A real node in namespaces of its own, and the tests that run on it.

    python -m tests.cluster test [pytest's arguments]    what `make test-cluster` runs
    python -m tests.cluster up [command...]              a node; the command (a shell) runs beside it

Everything is started below one process in network, mount and PID namespaces of its own: whatever ends that
process, Ctrl-C and SIGKILL included, ends all of it, and mounts and links go with the namespaces. What is
left then, a folder and empty cgroups, is removed here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster import needs, report

ALONE = ("--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL", "--mount-proc")


def main(words: list[str]) -> int:
    """Run what is asked for; returns an exit code."""
    if not words or words[0] not in ("test", "up"):
        _say(__doc__ or "")
        return 2
    lacking = [*needs.missing(), *(needs.missing_images() if words[0] == "test" else ())]
    if lacking:
        _say("\n".join(["NODE NOT TRIED: this machine lacks", *(f"  {line}" for line in lacking)]))
        return 1 if os.environ.get("CI") or words[0] == "up" else 0
    needs.remove_pod_groups()  # of a run that was killed
    # Short: a socket's path has 108 bytes at most, and containerd makes some below.
    folder = Path(tempfile.mkdtemp(prefix="policyd-node-", dir=os.environ.get("POLICYD_NODE_FOLDER")))
    began = time.monotonic()
    try:
        code = _alone(folder, words)
    finally:
        told = _told(folder)
        left = _clean(folder)
    took = time.monotonic() - began
    if told:
        _say(f"== Node: measured\n{told}")
    _say(f"== Node: {words[0]} ended with {code} after {took / 60:.1f} min; left behind: {left or 'nothing'}")
    return code or (1 if left else 0)


def _alone(folder: Path, words: list[str]) -> int:
    """Run `inside` as the first process of namespaces of its own, which ends with us."""
    python = [sys.executable, "-m", "tests.cluster.inside", str(folder), *words]
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *ALONE, *python]
    process = subprocess.Popen(command, cwd=needs.ROOT, env=needs.environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # who is inside got it, too, and ends in order
            continue


def _told(folder: Path) -> str:
    """Return what the tests noted."""
    file = folder / report.FILE
    return file.read_text() if file.exists() else ""


def _clean(folder: Path) -> list[str]:
    left = []
    for _ in range(50):  # the kernel takes a moment to empty cgroups of processes that were killed
        left = needs.remove_pod_groups()
        if not left:
            break
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)
    return left + ([str(folder)] if folder.exists() else [])


def _say(text: str) -> None:
    sys.stdout.write(text.rstrip() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
