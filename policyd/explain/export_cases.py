"""Write every case as a line of JSON, so that the Rust tests read what the Python tests read.

    python -m policyd.explain.export_cases OUT_DIR [PATH…]

makes OUT_DIR/cases.jsonl from the PolicyTests below the paths (default: tests/cases and policies). A line is
`{"name", "snapshot" (base64), "question", "expect"}`; `expect` holds the fields that the case gives, with
full names.
Cases of workloads without a table are left out: there are no bytes to decide on.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from policyd.explain.manifests import Manifests
from policyd.explain.policytest import Expected, TestFile, find_tests
from policyd.explain.testrun import Names, ask, is_tail, names_in

DEFAULT_PATHS = (Path("tests/cases"), Path("policies"))
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
"""The time of cases that say none: the same in every export."""


def lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield every case. Raises SourceError for files, ResourceError for cases that name nothing."""
    found = find_tests(paths)
    if found.problems:
        raise SystemExit("\n".join(problem.text for problem in found.problems))
    for file in found.files:
        yield from _of_file(file)


def _of_file(file: TestFile) -> Iterator[dict[str, Any]]:
    manifests = Manifests.read(file.manifests())
    for case in file.test.cases:
        asked = ask(manifests, file, case, NOW)
        table = manifests.table_of(asked.place)
        if table is None:
            continue
        yield {
            "name": f"{file.path}: {case.name}",
            "snapshot": base64.b64encode(table.snapshot).decode("ascii"),
            "question": msgspec.json.decode(asked.question.encode()),
            "expect": _full_names(case.expect, names_in(table)),
        }


def _full_names(expected: Expected, known: Names) -> dict[str, Any]:
    """Return the fields a case gives, the tails of names completed."""
    given = expected.model_dump(mode="json", by_alias=True, exclude_unset=True)
    candidates = {"authorization": known.authorizations, "server": known.servers, "route": known.routes}
    for field, names in candidates.items():
        if isinstance(given.get(field), str):
            given[field] = _full(given[field], names)
    audit = given.get("audit")
    if isinstance(audit, dict) and isinstance(audit.get("authorizations"), list):
        audit["authorizations"] = [_full(each, known.authorizations) for each in audit["authorizations"]]
    return given


def _full(tail: str, names: frozenset[str]) -> str:
    meant = [name for name in names if is_tail(tail, name)]
    return meant[0] if len(meant) == 1 else tail


def main(arguments: list[str]) -> int:
    """Write the file; return the exit code."""
    if not arguments:
        sys.stderr.write("expected: python -m policyd.explain.export_cases OUT_DIR [PATH...]\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    paths = [Path(argument) for argument in arguments[1:]] or list(DEFAULT_PATHS)
    with (folder / "cases.jsonl").open("wb") as out:
        for line in lines(paths):
            out.write(msgspec.json.encode(line) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
