"""Where things lie in the control plane's containers."""

from __future__ import annotations

SETTINGS_FOLDER = "/etc/policyd/settings"
SETTINGS_FILE = f"{SETTINGS_FOLDER}/settings.json"
ISSUER_FOLDER = "/etc/policyd/issuer"
"""`issuer.crt`, `issuer.key` and `root.crt`, from a Secret and a ConfigMap."""
ROOTS_FOLDER = "/etc/policyd/roots"
ROOTS_FILE = f"{ROOTS_FOLDER}/root.crt"
TOKEN_FOLDER = "/var/run/secrets/policyd"  # noqa: S105 - a place
TOKEN_FILE = f"{TOKEN_FOLDER}/token"
AUDIT_FOLDER = "/etc/policyd/audit"
AUDIT_CONNECTION = f"{AUDIT_FOLDER}/connection"
"""How PostgreSQL is reached, from a Secret of the installer's."""
STATE_FOLDER = "/var/lib/policyd"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the container's own, an emptyDir
