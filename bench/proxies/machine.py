"""What kind of machine this is: enough to compare, not enough to recognise it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def kind() -> str:
    """Return processor, number of cores and kernel."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {_kernel()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _kernel() -> str:
    """Major and minor version; the rest names a build."""
    return ".".join(platform.release().split(".")[:2])
