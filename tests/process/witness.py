"""The pod `witness` beside the books: who may call it, and the three ways to it."""

from __future__ import annotations

import re
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from .mesh import Mesh, tls

APP = Path(__file__).parent / "witness_app.py"
PORT = 7300
WAYS = ("plaintext", "mutual TLS", "outbound")

MANIFEST = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: witness, namespace: books}}
---
apiVersion: v1
kind: Service
metadata: {{name: witness, namespace: books}}
spec:
  selector: {{app: witness}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: witness, namespace: books}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: witness}}}}
  template:
    metadata: {{labels: {{app: witness}}}}
    spec:
      serviceAccountName: witness
      containers:
        - name: witness
          image: policyd-books:0.1
          command: ["{sys.executable}", "{APP}"]
          env:
            - name: POD_IP
              valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}
            - {{name: PORT, value: "{PORT}"}}
          ports: [{{name: http, containerPort: {PORT}}}]
          readinessProbe:
            tcpSocket: {{port: http}}
            periodSeconds: 1
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {{name: witness-http, namespace: books}}
spec:
  podSelector: {{matchLabels: {{app: witness}}}}
  port: http
---
# Anybody may ask, so that what is refused is refused for what it is.
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: witness-anybody, namespace: books}}
spec:
  targetRef: {{group: policyd.dev, kind: Server, name: witness-http}}
  requiredAuthenticationRefs: []
"""


@dataclass(frozen=True)
class Way:
    """How a client reaches the witness: an address, and TLS or none."""

    host: str
    port: int
    context: ssl.SSLContext | None = None


def way(mesh: Mesh, name: str) -> Way:
    """One of `WAYS`."""
    if name == "outbound":
        return Way(*mesh.listener("traffic-0", "books/witness:80"))
    host, port = mesh.address("witness-0", PORT)
    if name == "plaintext":
        return Way(host, port)
    return Way(host, port, tls(mesh.svid("books/traffic", mesh.pod("traffic-0").uid)))


def statuses(answers: bytes) -> list[int]:
    """The statuses of all answers in what came back."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
