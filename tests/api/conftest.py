"""Tests against a real API server: one for the session; each test has namespaces of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import crds, objects
from tests.api.audit_log import audit_flags
from tests.api.controlling import web
from tests.api.rig import ApiServer
from tests.cluster import binaries


@pytest.fixture(scope="session")
def api() -> Iterator[ApiServer]:
    """An API server with one node (an object, no kubelet) and RBAC."""
    if not binaries.is_built("api"):
        missing = (
            f"API SERVER NOT TRIED: {binaries.folder()} isn't built: `make kubernetes` does that, with Go"
        )
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="policyd-api-"))
    server = ApiServer(folder, audit_flags(folder))
    try:
        server.start()
        objects.create_node(server)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def namespace(api: ApiServer) -> str:
    """A namespace of the test's own, with the ServiceAccount `default`."""
    return objects.create_namespace(api)


@pytest.fixture
def pod(api: ApiServer, namespace: str) -> objects.Pod:
    """A pod with a Server, whom nobody may call yet."""
    crds.install(api, *crds.ours())
    made = objects.create_pod(
        api, namespace, name="web", metadata={"labels": {"app": "web"}}, address="10.1.1.1"
    )
    api.apply(web(namespace))
    return made
