"""What the canaries need to exist: a namespace, accounts, one Server with one grant, and the pods."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from policyd.admission.annotations import INJECT, OPT_OUT
from policyd.canary import program
from policyd.canary.flock import ALLOWED_PATH, BARE, CALLER, PORT, ROLES, SERVER, Role, calls_of
from policyd.install.names import RUN_AS
from policyd.model.names import POLICYD

Object = dict[str, Any]
LABEL: Final = f"{POLICYD}/canary"
"""On the namespace: it is ours, and may be removed by whoever finds it left behind."""
PREFIX: Final = "policyd-canary-"
SECURITY: Final = "pod-security.kubernetes.io/enforce"
LONGEST_SECONDS: Final = 300
"""After which a kubelet ends pods that nobody removed."""
_VERSION = f"{POLICYD}/v1alpha1"


@dataclass(frozen=True, slots=True)
class Nest:
    """One set of canaries: where they live, and what runs there. `words` come before `serve` and `call`."""

    words: tuple[str, ...]
    image: str
    pull_policy: str = "IfNotPresent"
    seconds: float = 30.0
    """How long callers wait for an answer."""
    namespace: str = field(default_factory=lambda: PREFIX + secrets.token_hex(4))
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def home(self) -> Object:
        """Return the namespace. Its pods must be injected, but for the one whose annotation says no."""
        labels = {
            LABEL: "true",
            INJECT: "enabled",
            OPT_OUT: "allowed",
            # Our own containers fit `restricted`; the injected step that redirects needs NET_ADMIN.
            SECURITY: "privileged",
        }
        return {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": labels},
        }

    def accounts(self) -> list[Object]:
        """Return a ServiceAccount for each pod; none of them may do anything."""
        return [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": self._meta(name),
                "automountServiceAccountToken": False,
            }
            for name in (SERVER, *ROLES)
        ]

    def policies(self) -> list[Object]:
        """Return the Server, and the one grant: CALLER may ask for ALLOWED_PATH."""
        target = {"group": POLICYD, "kind": "Server", "name": SERVER}
        who = {"group": POLICYD, "kind": "MeshTLSAuthentication", "name": CALLER}
        return [
            self._ours(
                "Server",
                SERVER,
                {
                    "podSelector": {"matchLabels": {LABEL: SERVER}},
                    "port": PORT,
                    "proxyProtocol": "HTTP/1",
                    "accessPolicy": "deny",
                },
            ),
            self._ours(
                "MeshTLSAuthentication",
                CALLER,
                {"identityRefs": [{"kind": "ServiceAccount", "name": CALLER}]},
            ),
            self._ours(
                "AuthorizationPolicy",
                CALLER,
                {
                    "targetRef": target,
                    "requiredAuthenticationRefs": [who],
                    "when": [{"path": {"in": [ALLOWED_PATH]}}],
                },
            ),
        ]

    def service(self) -> Object:
        """Return the Service by which pods on loopback reach the server."""
        spec = {"selector": {LABEL: SERVER}, "ports": [{"port": PORT}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": self._meta(SERVER), "spec": spec}

    def server(self) -> Object:
        """Return the pod that is called."""
        variables = {program.NONCE: self.nonce, program.LISTEN: f"$(POD_IP):{PORT}"}
        return self._pod(SERVER, "serve", variables)

    def caller(self, role: Role, target: str) -> Object:
        """Return a pod that calls `address:port`."""
        pod = self._pod(role, "call", self.caller_variables(role, target))
        if role == BARE:
            pod["metadata"]["annotations"] = {INJECT: "disabled"}
        return pod

    def caller_variables(self, role: Role, target: str) -> dict[str, str]:
        """Return what a caller is told."""
        return {
            program.NONCE: self.nonce,
            program.TARGET: target,
            program.SOURCE: "$(POD_IP)",
            program.CALLS: json.dumps(calls_of(role)),
            program.SECONDS: str(self.seconds),
        }

    def _pod(self, name: str, role: str, variables: dict[str, str]) -> Object:
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container = {
            "name": "canary",
            "image": self.image,
            "imagePullPolicy": self.pull_policy,
            "command": [*self.words, role],
            "env": [address, *({"name": key, "value": value} for key, value in variables.items())],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        if name == SERVER:
            container["ports"] = [{"containerPort": PORT, "protocol": "TCP"}]
        metadata = self._meta(name) | {"labels": {LABEL: name}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(name, container)}

    def _ours(self, kind: str, name: str, spec: Object) -> Object:
        return {"apiVersion": _VERSION, "kind": kind, "metadata": self._meta(name), "spec": spec}

    def _meta(self, name: str) -> Object:
        return {"name": name, "namespace": self.namespace}


def _spec(account: str, container: Object) -> Object:
    """Return a pod's spec that fits the Pod Security profile `restricted`."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LONGEST_SECONDS,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUN_AS,
            "runAsGroup": RUN_AS,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
