"""What the API is called: by the API server, by policyd that serves it, and by commands that ask."""

from __future__ import annotations

from typing import Final

GROUP: Final = "audit.policyd.dev"
VERSION: Final = "v1alpha1"
GROUP_VERSION: Final = f"{GROUP}/{VERSION}"
API_SERVICE: Final = f"{VERSION}.{GROUP}"
DENIALS: Final = "denials"
GROUPS: Final = "denialgroups"
EXPLANATION: Final = "explanation"
"""A part of a denial, with a right of its own: it says what policies say."""
SECRET: Final = "policyd-audit-tls"  # noqa: S105 - a name
"""Where the replicas keep the serving certificate."""
CONFIG_NAMESPACE: Final = "kube-system"
CONFIG_NAME: Final = "extension-apiserver-authentication"
"""The ConfigMap that says how the API server proves to be it."""
MOST_LISTED: Final = 500
"""Denials of one answer; `continue` leads to the next."""
MOST_GROUPS: Final = 1000
