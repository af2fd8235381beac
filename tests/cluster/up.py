"""A node for a person: starts it, loads the images that are there, and runs a command (a shell) beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import needs
from tests.cluster.images import applications_archive
from tests.cluster.node import Node
from tests.cluster.others import install_others
from tests.cluster.report import FOLDER


def main(command: list[str]) -> int:
    """Run the command with KUBECONFIG set; without one, the user's shell."""
    folder = Path(os.environ[FOLDER])
    node = Node(folder)
    began = time.monotonic()
    try:
        node.start()
        _say(f"the node is ready after {time.monotonic() - began:.1f} s; KUBECONFIG={node.kubeconfig}")
        for name in needs.ARCHIVES:
            if (needs.IMAGES / name).exists():
                node.load(needs.IMAGES / name)
        node.load(applications_archive(folder))
        install_others(node)
        _say("images are loaded, and CRDs of Gateway API and Linkerd")
        path = ":".join([str(node.programs), str(Path(sys.executable).parent), needs.path()])
        environment = {**os.environ, "KUBECONFIG": str(node.kubeconfig), "PATH": path, "HOME": str(folder)}
        return subprocess.call(command or [os.environ.get("SHELL", "/bin/sh")], env=environment)
    except KeyboardInterrupt:
        return 130
    finally:
        node.stop()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
