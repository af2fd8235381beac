"""Addresses and files of the node, known to all of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NODE = "node0"
NODE_ADDRESS = "10.200.0.1"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
"""The first address of SERVICES: what pods call the API server by."""
PODS = "10.244.0.0/16"
NODE_PODS = "10.244.0.0/24"
GATEWAY = "10.244.0.1"
"""The bridge's address: pods' default gateway, and where the kubelet's probes come from."""
DOMAIN = "cluster.local"
PAUSE = "localhost/pause:1"


def network(folder: Path) -> dict[str, Any]:
    """Return CNI's configuration: one bridge, all pods on it."""
    ipam = {
        "type": "host-local",
        "dataDir": str(folder / "ipam"),
        "ranges": [[{"subnet": NODE_PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "node", "plugins": [bridge, portmap]}


def containerd(folder: Path, plugins: Path) -> str:
    """Return containerd's configuration, in TOML."""
    return f"""\
version = 2
root = "{folder}/containerd"
state = "{folder}/run"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
"""


def kubelet(folder: Path, client_ca: Path) -> dict[str, Any]:
    """Return the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(client_ca)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
        "readOnlyPort": 0,
        # A disk that is nearly full is no concern of these tests.
        "evictionHard": {
            "memory.available": "10Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": str(folder / "volume-plugins"),
        "podLogsDir": str(folder / "pod-logs"),
        # Of the machine's kernel only what namespaces have is changed.
        "featureGates": {"KubeletInUserNamespace": True},
        # ConfigMaps and tokens reach pods when they change, not a minute later.
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "syncFrequency": "10s",
        "serializeImagePulls": False,
        "shutdownGracePeriod": "0s",
    }
