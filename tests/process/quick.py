"""The pod `quick` beside the books: much can be asked of it for little, and the right answers are known."""

from __future__ import annotations

from pathlib import Path

from .load import Ask, Way, ask
from .mesh import Mesh, tls
from .pods import container, pod, service

APP = Path(__file__).parent / "quick_app.py"
PORT = 7500
SERVICE = "books/quick:80"

_CONTAINER = container(APP, {"http": PORT}, LINGER_SECONDS="1") | {
    "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}
}
MANIFEST = (
    pod("quick", "books", _CONTAINER)
    + service("quick", "books", "http")
    + """
apiVersion: policyd.dev/v1alpha1
kind: Server
metadata: {name: quick-http, namespace: books}
spec:
  podSelector: {matchLabels: {app: quick}}
  port: http
  proxyProtocol: HTTP/1
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: quick, namespace: books}
spec:
  parentRefs: [{group: policyd.dev, kind: Server, name: quick-http}]
  rules:
    - matches:
        - path: {type: PathPrefix, value: /friends}
        - path: {type: PathPrefix, value: /open}
        - path: {type: PathPrefix, value: /marks}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: quick-friends, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: quick-http}
  requiredAuthenticationRefs:
    - {kind: ServiceAccount, name: traffic}
  when:
    - path: {prefix: /friends}
    - method: {in: [GET]}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: quick-open, namespace: books}
spec:
  targetRef: {group: policyd.dev, kind: Server, name: quick-http}
  requiredAuthenticationRefs: []
  when:
    - path: {prefix: /open}
    - method: {in: [GET]}
"""
)

FRIENDS = (
    *(ask("GET", f"/friends/{number}", 200) for number in range(6)),
    ask("GET", "/open/1", 200),
    ask("DELETE", "/friends/1", 403),
    ask("GET", "/marks/1", 403),
    ask("GET", "/nowhere", 404),
)
STRANGERS: tuple[Ask, ...] = (
    ask("GET", "/open/1", 200),
    ask("GET", "/open/2", 200),
    ask("GET", "/friends/1", 403),
    ask("DELETE", "/open/1", 403),
    ask("GET", "/nowhere", 404),
)


def outbound(mesh: Mesh, asks: tuple[Ask, ...] = FRIENDS) -> Way:
    """As an application beside another proxy."""
    return Way("outbound", mesh.listener("traffic-0", SERVICE), asks)


def direct(mesh: Mesh, pod: str = "quick-0", asks: tuple[Ask, ...] = FRIENDS) -> Way:
    """As another pod's proxy, with its certificate."""
    svid = mesh.svid("books/traffic", mesh.pod("traffic-0").uid)
    return Way(f"mutual TLS to {pod}", mesh.address(pod, PORT), asks, tls(svid))


def plaintext(mesh: Mesh, pod: str = "quick-0", asks: tuple[Ask, ...] = STRANGERS) -> Way:
    """As somebody outside the mesh."""
    return Way(f"plaintext to {pod}", mesh.address(pod, PORT), asks)
