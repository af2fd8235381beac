"""Kubernetes' programs and etcd, built once from Go modules into a cache outside the tree.

    python3 tests/cluster/binaries.py api     etcd, kube-apiserver, kubectl: what tests of the API need
    python3 tests/cluster/binaries.py node    the others, which a whole node needs

Versions and sums are those of `go/go.mod` and `go/go.sum`; the cache's name carries them, so that what is
found there is what they say. Needs Python's own library only, since it runs before there is an environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MODULE = Path(__file__).parent / "go"
SETS = {
    "api": ("etcd", "kube-apiserver", "kubectl"),
    "node": ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
}
"""By the name of a set: its programs."""
_STRIPPED = "-s -w"


def version() -> str:
    """Kubernetes' version, such as `1.34.4`."""
    found = re.search(r"^\s*k8s\.io/kubernetes v(\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{MODULE / 'go.mod'} names no k8s.io/kubernetes")
    return found[1]


def folder() -> Path:
    """Where the programs of these very modules are, built or not."""
    sums = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        sums.update((MODULE / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "policyd" / f"kubernetes-{version()}-{sums.hexdigest()[:12]}"


def is_built(which: str) -> bool:
    return (folder() / f".{which}").exists()


def build(which: str) -> None:
    """Build a set; raises CalledProcessError. A second caller waits for the first and finds it done."""
    into = folder()
    into.mkdir(parents=True, exist_ok=True)
    with (into / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_built(which):
            return
        # One call for all of Kubernetes' programs: they share most of what is compiled.
        components = [f"k8s.io/kubernetes/cmd/{name}" for name in SETS[which] if name != "etcd"]
        _go_build(f"{into}/", *components)
        if "etcd" in SETS[which]:
            _go_build(f"{into}/etcd", "go.etcd.io/etcd/server/v3")
        (into / f".{which}").touch()


def _go_build(output: str, *packages: str) -> None:
    major, minor, _ = version().split(".")
    said = {"gitVersion": f"v{version()}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(
        [_STRIPPED, *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in said.items())]
    )
    command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o", output, *packages]
    # GOTOOLCHAIN: the Go that is there, or none; it isn't to fetch another.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    subprocess.run(command, cwd=MODULE, env=environment, check=True)


def main(which: str) -> int:
    if is_built(which):
        return 0
    names = ", ".join(SETS[which])
    _say(f"building {names} of Kubernetes {version()} into {folder()}: some minutes, once")
    problem = "Go isn't on this machine"
    if shutil.which("go"):
        try:
            build(which)
        except (OSError, subprocess.CalledProcessError) as error:
            problem = str(error)
        else:
            return 0
    _say(f"NOT THERE: {names}, which Go builds: {problem}")
    return 1 if os.environ.get("CI") else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
