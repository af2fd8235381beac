"""What a node needs of this machine, found or named; no more than Python's own library, as it runs first."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster import binaries

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "build" / "tools" / "node"
"""Where `make node-tools` puts what Debian's packages hold; nothing is installed."""
PACKAGED = {
    "containerd": "usr/bin",
    "containerd-shim-runc-v2": "usr/bin",
    "ctr": "usr/bin",
    "runc": "usr/sbin",
    "conntrack": "usr/sbin",
    "nft": "usr/sbin",
}
"""By program: its folder in Debian's packages. One that the machine has in its PATH is as good."""
LIBRARIES = ("seccomp", "nftables", "nftnl", "jansson")
"""What these load and not every machine has."""
PLUGINS = ("bridge", "host-local", "loopback", "portmap")
MACHINE = ("ip", "nsenter", "unshare", "setpriv", "mount", "umount", "sysctl")
"""Of iproute2, util-linux and procps: what every machine has that is more than a container."""
IMAGES = ROOT / "build" / "images"
ARCHIVES = ("policyd-proxy.tar", "policyd.tar")


def path() -> str:
    """Return PATH with what was unpacked behind what the machine has."""
    unpacked = [str(DEBIAN / folder) for folder in ("usr/bin", "usr/sbin")]
    return ":".join([os.environ["PATH"], "/usr/sbin", "/sbin", *unpacked])


def libraries() -> str:
    """Return the folders of unpacked libraries where the machine lacks one that its programs load."""
    if all(ctypes.util.find_library(name) for name in LIBRARIES):
        return ""
    return ":".join(sorted({str(file.parent) for file in DEBIAN.rglob("lib*.so.*")}))


def environment() -> dict[str, str]:
    """Return the environment in which programs of the machine and unpacked ones run."""
    found = {**os.environ, "PATH": path()}
    return found | {"LD_LIBRARY_PATH": libraries()} if libraries() else found


def plugins() -> Path:
    """Return the folder of the CNI plugins."""
    for folder in (DEBIAN / "usr/lib/cni", Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if all((folder / name).exists() for name in PLUGINS):
            return folder
    return DEBIAN / "usr/lib/cni"


def missing() -> list[str]:
    """Return what isn't here, one line each; nothing where a node can run."""
    lines = []
    if os.geteuid() != 0:
        lines.append("root: namespaces, mounts and cgroups are made")
    lines += [f"{name}: util-linux, iproute2 or procps" for name in MACHINE if not _found(name)]
    lines += [f"{name}: `make node-tools` unpacks it (Debian)" for name in PACKAGED if not _found(name)]
    lines += [
        f"CNI plugin {name}: `make node-tools` unpacks it (Debian)"
        for name in PLUGINS
        if not (plugins() / name).exists()
    ]
    if not all(binaries.is_built(which) for which in binaries.SETS):
        lines.append(f"Kubernetes in {binaries.folder()}: `make kubernetes-node` builds it (Go)")
    if _other_kubelet():
        lines.append("a machine without a kubelet: /sys/fs/cgroup has a `kubepods` with processes in it")
    return lines


def missing_images() -> list[str]:
    """Return which archives of ours aren't there, one line each."""
    return [f"{name}: `make images` assembles it" for name in ARCHIVES if not (IMAGES / name).exists()]


def _found(program: str) -> bool:
    return shutil.which(program, path=path()) is not None


def pod_groups() -> list[Path]:
    """Return the cgroups that kubelets make for all pods, in every hierarchy."""
    top = Path("/sys/fs/cgroup")
    return [found for found in (top / "kubepods", *sorted(top.glob("*/kubepods"))) if found.is_dir()]


def _other_kubelet() -> bool:
    return any(file.read_text().strip() for top in pod_groups() for file in top.rglob("cgroup.procs"))


def remove_pod_groups() -> list[str]:
    """Remove cgroups that a kubelet of ours left behind; returns those that won't go."""
    left = []
    for top in pod_groups():
        folders = sorted((each for each in top.rglob("*") if each.is_dir()), reverse=True)
        for folder in [*folders, top]:
            try:
                folder.rmdir()
            except OSError:
                left.append(str(folder))
    return left


def run(*words: str | Path, timeout: float = 60.0) -> str:
    """Run a program of the machine or of Debian's packages to its end; raises RuntimeError with its words."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
