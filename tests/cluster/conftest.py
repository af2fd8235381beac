"""One node for the session, and the mesh that is installed on it; in the order of its life."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.inventory import everything
from tests.cluster import manifests, needs
from tests.cluster.cluster import CONTROL_PLANE, Cluster
from tests.cluster.images import applications_archive
from tests.cluster.load import URL
from tests.cluster.node import Node
from tests.cluster.others import install_others
from tests.cluster.policy_cases import CASES
from tests.cluster.report import FOLDER

ORDER = (
    *("install", "canaries", "adoption", "policies", "denials", "interception"),
    *("outages", "ha", "uninstall"),
)
"""`test_NAME.py`: each finds the cluster as those before it left it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files as a cluster's life goes; those of other folders keep their places behind them."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return (
            ORDER.index(name) if item.path.parent == Path(__file__).parent and name in ORDER else len(ORDER)
        )

    items.sort(key=place)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A node that is ready, with our images on it, and the CRDs of Gateway API and Linkerd."""
    if FOLDER not in os.environ:
        missing = "NODE NOT TRIED: `make test-cluster` makes the namespaces that these tests run in (root)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    found = Node(Path(os.environ[FOLDER]))
    try:
        found.start()
        for name in needs.ARCHIVES:
            found.load(needs.IMAGES / name)
        found.load(applications_archive(found.folder))
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def cluster(node: Node) -> Iterator[Cluster]:
    """The cluster, with what is no part of policyd and its users have."""
    install_others(node)
    found = Cluster(node)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def before(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Everything that was there before the install."""
    return everything(cluster.node)


@pytest.fixture(scope="session")
def mesh(cluster: Cluster, before: set[tuple[str, str, str]]) -> Cluster:
    """The cluster with policyd installed as the documents say, and ready."""
    assert before
    cluster.policyctl("check", "--pre")
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=cluster.policyctl("install", "--crds"))
    words = (
        "install",
        "--set",
        "images.pullPolicy=Never",
        "--root-key-out",
        str(cluster.node.folder / "root.key"),
    )
    cluster.kubectl("apply", "-f", "-", stdin=cluster.policyctl(*words))
    cluster.rolled_out(CONTROL_PLANE)
    return cluster


@pytest.fixture(scope="session")
def shop(mesh: Cluster) -> Cluster:
    """The mesh with a server and two callers in `shop`, enrolled, and a caller in `outside`, which isn't."""
    mesh.apply(manifests.namespace("shop", enrolled=True), manifests.namespace("outside", enrolled=False))
    mesh.apply(
        *manifests.server("shop"),
        *manifests.caller("shop", "web"),
        *manifests.caller("shop", "bot"),
        *manifests.caller("outside", "plain"),
    )
    mesh.rolled_out("shop")
    mesh.rolled_out("outside")
    return mesh


@pytest.fixture(scope="module")
def guarded(shop: Cluster) -> Iterator[Cluster]:
    """The shop with two servers, open to `web` and closed to `bot`."""
    objects = next(each for each in CASES if each.name == "allow-an-account").make("")
    shop.kubectl("scale", "-n", "shop", "deployment/server", "--replicas=2")
    shop.rolled_out("shop", "server")
    shop.apply(*objects)
    for who, status in (("web", 200), ("bot", 403)):
        answer = shop.agent("shop", who).ask(
            "until", ask={"do": "get", "url": URL}, status=status, seconds=10
        )
        assert answer["at"] is not None, answer
    yield shop
    shop.delete(*objects)
