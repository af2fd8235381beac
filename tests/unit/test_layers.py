"""What each Rust crate may lean on: the engine on next to nothing, the fan-out on no policy."""

import json
import subprocess

ALLOWED = {
    "engine": {"foldhash", "hashbrown", "ipnet", "memchr", "regex", "regex-syntax", "thiserror"},
    "snapshot": {"engine", "base64", "ipnet", "prost", "serde", "serde_json", "sha2", "thiserror"},
    "policyd-python": {"engine", "snapshot", "fanout", "bytes", "pyo3", "serde", "serde_json"},
    "fanout": {
        "aws-lc-rs",
        "bytes",
        "h2",
        "http",
        "prost",
        "rustls",
        "rustls-pki-types",
        "socket2",
        "thiserror",
        "tokio",
        "tokio-rustls",
    },
}
NOT_LIMITED = {"dataplane"}
"""The outermost crate: sockets, TLS and clocks belong there, and in `fanout`, which knows no policy."""


def _direct_dependencies() -> dict[str, set[str]]:
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {
        package["name"]: {each["name"] for each in package["dependencies"] if each["kind"] is None}
        for package in json.loads(printed)["packages"]
    }


def test_every_crate_leans_on_what_its_layer_allows() -> None:
    found = _direct_dependencies()
    assert found.keys() == ALLOWED.keys() | NOT_LIMITED, "a new crate needs a place in the layers"
    for crate, allowed in ALLOWED.items():
        assert found[crate] <= allowed, f"{crate} leans on {found[crate] - allowed}"
