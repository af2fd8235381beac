"""policyd behind an API server of these tests' own, since what that says of its front proxy changes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import crds, objects
from tests.api.audit_policyd import AuditPolicyd
from tests.api.rig import ApiServer


@pytest.fixture(scope="package")
def policyd(api: ApiServer) -> Iterator[AuditPolicyd]:
    del api  # skips where there are no programs
    folder = Path(tempfile.mkdtemp(prefix="policyd-audit-api-"))
    (folder / "policyd").mkdir()
    server = ApiServer(folder, ["--enable-aggregator-routing=false"])
    started: AuditPolicyd | None = None
    try:
        server.start()
        crds.install(server, *crds.ours())
        started = AuditPolicyd(server, folder / "policyd")
        started.start()
        yield started
    finally:
        if started is not None:
            started.stop()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shop(policyd: AuditPolicyd) -> str:
    return objects.create_namespace(policyd.api)


@pytest.fixture
def bank(policyd: AuditPolicyd) -> str:
    return objects.create_namespace(policyd.api)
