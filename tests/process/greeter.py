"""The pod `greeter` beside the books: a gRPC server, who may call which of its methods, and how."""

from __future__ import annotations

from pathlib import Path

from .mesh import Mesh, tls
from .pods import container, pod, service
from .witness import Way

APP = Path(__file__).parent / "greeter_app.py"
PORT = 7400
SERVICE = "books/greeter:80"

MANIFEST = (
    pod("greeter", "books", container(APP, {"grpc": PORT}))
    + service("greeter", "books", "grpc")
    + """
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: greeter-grpc, namespace: books}
spec:
  podSelector: {matchLabels: {app: greeter}}
  port: grpc
  proxyProtocol: gRPC
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: greeter-open, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: greeter-grpc}]
  rules:
    - matches:
        - method: {service: books.Greeter, method: Say}
        - method: {service: books.Greeter, method: Repeat}
        - method: {service: books.Greeter, method: Gather}
        - method: {service: books.Greeter, method: Fail}
        - method: {service: books.Greeter, method: Sleep}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: greeter-chat, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: greeter-grpc}]
  rules:
    - matches:
        - method: {service: books.Greeter, method: Chat}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: greeter-private, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: greeter-grpc}]
  rules:
    - matches:
        - method: {service: books.Greeter, method: Private}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: greeter-anybody, namespace: books}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: greeter-open}
  requiredAuthenticationRefs: []
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: greeter-chatters, namespace: books}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: greeter-chat}
  requiredAuthenticationRefs: []
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: greeter-friends, namespace: books}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: greeter-private}
  requiredAuthenticationRefs:
    - {kind: ServiceAccount, name: traffic}
"""
)


def way(mesh: Mesh, name: str) -> Way:
    """`plaintext`, `mutual TLS` or `outbound`."""
    if name == "outbound":
        return Way(*mesh.listener("traffic-0", SERVICE))
    host, port = mesh.address("greeter-0", PORT)
    if name == "plaintext":
        return Way(host, port)
    svid = mesh.svid("books/traffic", mesh.pod("traffic-0").uid)
    return Way(host, port, tls(svid, alpn="policyd/1+h2"))
