"""The API server's own audit log: of requests to policies alone, and without what they held."""

from __future__ import annotations

from pathlib import Path

from tests.api.rig import ApiServer

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources: [{group: policyd.dev}, {group: policy.linkerd.io}]
- level: None
"""


def audit_flags(folder: Path) -> list[str]:
    """Return flags of an API server that let it log."""
    policy = folder / "audit-policy.yaml"
    policy.write_text(POLICY)
    return [f"--audit-policy-file={policy}", f"--audit-log-path={_log(folder)}"]


def audit_log(api: ApiServer) -> Path:
    """Return where it logs."""
    return _log(api.folder)


def _log(folder: Path) -> Path:
    return folder / "api-audit.log"
