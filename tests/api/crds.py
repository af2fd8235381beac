"""CRDs of the kinds that tests use, with or without what they say of fields."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.api.rig import ApiServer, RigError

OURS = Path(__file__).parents[2] / "crds"
ESTABLISHED_SECONDS = 20.0


def lax(
    group: str,
    version: str,
    kind: str,
    plural: str,
    scope: str = "Namespaced",
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a CRD that takes anything: what was stored before a schema, or past it, looks like that.

    `more`: versions that are served beside the stored one.
    """
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": _approval(group)},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": each,
                    "served": True,
                    "storage": each == version,
                    "schema": {"openAPIV3Schema": anything},
                    "subresources": {"status": {}},
                }
                for each in (version, *more)
            ],
        },
    }


def _approval(group: str) -> dict[str, str]:
    """Return what the API server wants of CRDs in groups of Kubernetes' own."""
    return {"api-approved.kubernetes.io": "unapproved, tests only"} if group.endswith(".k8s.io") else {}


@contextlib.contextmanager
def lent(api: ApiServer, *crds: dict[str, Any]) -> Iterator[None]:
    """Have CRDs for a while; those that weren't there before are removed with their objects."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    before = {each["metadata"]["name"] for each in api.request("GET", path)["items"]}
    install(api, *crds)
    try:
        yield
    finally:
        for crd in crds:
            if crd["metadata"]["name"] not in before:
                remove(api, crd["metadata"]["name"])


@contextlib.contextmanager
def loosened(api: ApiServer, *crds: dict[str, Any]) -> Iterator[None]:
    """Have these very CRDs for a while, also where others of these names are there already."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    install(api, *crds)
    names = {crd["metadata"]["name"]: crd for crd in crds}
    before = [each for each in api.request("GET", path)["items"] if each["metadata"]["name"] in names]
    for each in before:
        _replace(api, each["metadata"]["name"], names[each["metadata"]["name"]]["spec"])
    for crd in crds:
        _wait_lax(api, crd["spec"])
    try:
        yield
    finally:
        for each in before:
            _replace(api, each["metadata"]["name"], each["spec"])


def _replace(api: ApiServer, name: str, spec: dict[str, Any]) -> None:
    change = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
    api.kubectl("patch", "crd", name, "--type=json", "-p", change)


def _wait_lax(api: ApiServer, spec: dict[str, Any]) -> None:
    """Wait until the API server stops judging by what stood there before: it takes a moment."""
    version, names = spec["versions"][0]["name"], spec["names"]
    inside = "/namespaces/default" if spec["scope"] == "Namespaced" else ""
    path = f"/apis/{spec['group']}/{version}{inside}/{names['plural']}?dryRun=All"
    body = {
        "apiVersion": f"{spec['group']}/{version}",
        "kind": names["kind"],
        "metadata": {"name": "anything"},
        "spec": "anything",
    }
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while True:
        try:
            api.request("POST", path, body)
        except RigError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def ours() -> list[dict[str, Any]]:
    """Return the CRDs of our group, lax."""
    found = []
    for file in sorted(OURS.glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        names = spec["names"]
        made = lax(spec["group"], spec["versions"][0]["name"], names["kind"], names["plural"], spec["scope"])
        found.append(made)
    return found


def install(api: ApiServer, *crds: dict[str, Any]) -> None:
    """Create CRDs and wait until they are served; one that is there stays."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    there = {each["metadata"]["name"] for each in api.request("GET", path)["items"]}
    for crd in crds:
        if crd["metadata"]["name"] not in there:
            api.request("POST", path, crd)
    for crd in crds:
        spec = crd["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        _wait_served(api, served)


def remove(api: ApiServer, name: str) -> None:
    """Delete a CRD, and with it its objects."""
    api.request("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")


def _wait_served(api: ApiServer, path: str) -> None:
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while True:
        try:
            api.request("GET", path)
        except RigError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
