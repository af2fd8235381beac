"""Where our own programs are."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from policyd.errors import SourceError

PROXY = "policyd-proxy"
_IN_TREE = ("target/debug", "target/release", "target/dev")


def find_proxy() -> Path:
    """Return the proxy: `$POLICYD_PROXY`, beside the package, as built, on PATH. Raises SourceError."""
    named = os.environ.get("POLICYD_PROXY")
    if named:
        if not os.access(named, os.X_OK):
            raise SourceError(f"POLICYD_PROXY: {named}: no program: build it with `cargo build -p dataplane`")
        return Path(named).resolve()
    package = Path(__file__).resolve().parent.parent
    built = os.environ.get("CARGO_TARGET_DIR")
    folders = [package, Path(sys.executable).parent, *(package.parent / each for each in _IN_TREE)]
    if built:
        folders.append(Path(built) / "debug")
    for folder in folders:
        if os.access(folder / PROXY, os.X_OK):
            return folder / PROXY
    found = shutil.which(PROXY)
    if found is None:
        raise SourceError(
            f"{PROXY}: not found: build it with `cargo build -p dataplane`, or set POLICYD_PROXY"
        )
    return Path(found)


def search_path() -> str:
    """Return PATH as containers get it: first this interpreter's folder, so that `python3` is this one."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def python_program(module: str) -> list[str]:
    """Return the words that run a console script of ours with this very interpreter."""
    return [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())"]
