"""The pod `vault`, which answers HTTP/1, gRPC and lines on TCP, and the account `caller` that may call it."""

from __future__ import annotations

import sys
from pathlib import Path

HTTP, GRPC, TCP = "http", "grpc", "tcp"
PORTS = {HTTP: 7500, GRPC: 7400, TCP: 7600}
ALL = (HTTP, GRPC, TCP)
_HERE = Path(__file__).parent

WORKLOADS = f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: vault, namespace: vaults}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: caller, namespace: callers}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: vault, namespace: vaults}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: vault}}}}
  template:
    metadata: {{labels: {{app: vault}}}}
    spec:
      serviceAccountName: vault
      containers:
        - name: http
          image: policyd-test:0.1
          command: ["{sys.executable}", "{_HERE / "quick_app.py"}"]
          env:
            - name: POD_IP
              valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}
            - {{name: PORT, value: "{PORTS[HTTP]}"}}
            - {{name: ECHO_PORT, value: "{PORTS[TCP]}"}}
          ports:
            - {{name: http, containerPort: {PORTS[HTTP]}}}
            - {{name: tcp, containerPort: {PORTS[TCP]}}}
          readinessProbe:
            tcpSocket: {{port: http}}
            periodSeconds: 1
        - name: grpc
          image: policyd-test:0.1
          command: ["{sys.executable}", "{_HERE / "greeter_app.py"}"]
          env:
            - name: POD_IP
              valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}
            - {{name: PORT, value: "{PORTS[GRPC]}"}}
          ports: [{{name: grpc, containerPort: {PORTS[GRPC]}}}]
          readinessProbe:
            tcpSocket: {{port: grpc}}
            periodSeconds: 1
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: caller, namespace: callers}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: caller}}}}
  template:
    metadata: {{labels: {{app: caller}}}}
    spec:
      serviceAccountName: caller
      containers:
        - name: caller
          image: policyd-test:0.1
          command: ["{sys.executable}", "-c", "import signal; signal.pause()"]
"""
