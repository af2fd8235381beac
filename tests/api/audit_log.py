"""The API server's own audit log: of writes to policies alone, and without what they held."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tests.api.rig import ApiServer

PAGE = Path(__file__).parents[2] / "docs/reference/who-changed-it.md"


def policy() -> str:
    """Return the policy that the page recommends."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    began = lines.index("    apiVersion: audit.k8s.io/v1")
    return textwrap.dedent("\n".join(lines[began : lines.index("", began)]))


def audit_flags(folder: Path) -> list[str]:
    """Return flags of an API server that let it log."""
    written = folder / "audit-policy.yaml"
    written.write_text(policy())
    return [f"--audit-policy-file={written}", f"--audit-log-path={_log(folder)}"]


def audit_log(api: ApiServer) -> Path:
    """Return where it logs."""
    return _log(api.folder)


def _log(folder: Path) -> Path:
    return folder / "api-audit.log"
