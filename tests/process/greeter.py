"""The pod `greeter` beside the books: a gRPC server, who may call which of its methods, and how."""

from __future__ import annotations

import sys
from pathlib import Path

from .mesh import Mesh, tls
from .witness import Way

APP = Path(__file__).parent / "greeter_app.py"
PORT = 7400
SERVICE = "books/greeter:80"

MANIFEST = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: greeter, namespace: books}}
---
apiVersion: v1
kind: Service
metadata: {{name: greeter, namespace: books}}
spec:
  selector: {{app: greeter}}
  ports: [{{name: grpc, port: 80, targetPort: grpc}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: greeter, namespace: books}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: greeter}}}}
  template:
    metadata: {{labels: {{app: greeter}}}}
    spec:
      serviceAccountName: greeter
      containers:
        - name: greeter
          image: policyd-books:0.1
          command: ["{sys.executable}", "{APP}"]
          env:
            - name: POD_IP
              valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}
            - {{name: PORT, value: "{PORT}"}}
          ports: [{{name: grpc, containerPort: {PORT}}}]
          readinessProbe:
            tcpSocket: {{port: grpc}}
            periodSeconds: 1
---
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {{name: greeter-grpc, namespace: books}}
spec:
  podSelector: {{matchLabels: {{app: greeter}}}}
  port: grpc
  proxyProtocol: gRPC
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: greeter-open, namespace: books}}
spec:
  parentRefs: [{{group: policyd.dev, kind: Server, name: greeter-grpc}}]
  rules:
    - matches:
        - method: {{service: books.Greeter, method: Say}}
        - method: {{service: books.Greeter, method: Repeat}}
        - method: {{service: books.Greeter, method: Gather}}
        - method: {{service: books.Greeter, method: Fail}}
        - method: {{service: books.Greeter, method: Sleep}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: greeter-chat, namespace: books}}
spec:
  parentRefs: [{{group: policyd.dev, kind: Server, name: greeter-grpc}}]
  rules:
    - matches:
        - method: {{service: books.Greeter, method: Chat}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: greeter-private, namespace: books}}
spec:
  parentRefs: [{{group: policyd.dev, kind: Server, name: greeter-grpc}}]
  rules:
    - matches:
        - method: {{service: books.Greeter, method: Private}}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: greeter-anybody, namespace: books}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: GRPCRoute, name: greeter-open}}
  requiredAuthenticationRefs: []
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: greeter-chatters, namespace: books}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: GRPCRoute, name: greeter-chat}}
  requiredAuthenticationRefs: []
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: greeter-friends, namespace: books}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: GRPCRoute, name: greeter-private}}
  requiredAuthenticationRefs:
    - {{kind: ServiceAccount, name: traffic}}
"""


def way(mesh: Mesh, name: str) -> Way:
    """`plaintext`, `mutual TLS` or `outbound`."""
    if name == "outbound":
        return Way(*mesh.listener("traffic-0", SERVICE))
    host, port = mesh.address("greeter-0", PORT)
    if name == "plaintext":
        return Way(host, port)
    svid = mesh.svid("books/traffic", mesh.pod("traffic-0").uid)
    return Way(host, port, tls(svid, alpn="policyd/1+h2"))
