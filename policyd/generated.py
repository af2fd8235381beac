"""Files of the tree that are made from code: `--write` makes them anew, `--check` says which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Generated:
    """A folder that holds these files and no others."""

    folder: Path
    rendered: Callable[[], dict[str, str]]
    """Its files: path in the folder to text."""
    shown: str
    """The folder in messages."""
    make: str
    """What makes it: `make crds`."""

    def stale(self, folder: Path | None = None) -> list[str]:
        """Return the names of files that are missing, differ, or shouldn't be there."""
        at, wanted = folder or self.folder, self.rendered()
        found = (path for path in at.rglob("*") if path.is_file())
        there = {str(path.relative_to(at)): path.read_text(encoding="utf-8") for path in found}
        return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))

    def write(self, folder: Path | None = None) -> None:
        """Write the files, and remove those that are none of them."""
        at, wanted = folder or self.folder, self.rendered()
        for name in self.stale(at):
            path, text = at / name, wanted.get(name)
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def main(self) -> int:
        """Write the files, or say which are stale (exit code 1), as the command line asks."""
        parser = argparse.ArgumentParser(description=f"Make {self.shown} from code: what `{self.make}` does.")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--write", action="store_true", help="write the files")
        what.add_argument("--check", action="store_true", help="say which files are stale")
        if parser.parse_args().write:
            self.write()
            return 0
        names = self.stale()
        for name in names:
            sys.stderr.write(f"{self.shown}/{name} is stale: run `{self.make}`\n")
        return 1 if names else 0
