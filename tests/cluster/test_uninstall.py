"""What `policyctl uninstall` prints takes away all that was installed, and nothing else."""

from __future__ import annotations

import pytest

from tests.api.inventory import everything
from tests.cluster.cluster import Cluster

OWN_NAMESPACES = ("shop", "outside")
COMES_AND_GOES = {"events", "endpointslices", "replicasets", "controllerrevisions", "leases"}
"""What controllers make of other objects, and remove some time after them."""
GONE_SECONDS = 120.0


@pytest.mark.promise("P-17")
def test_p_17_the_cluster_is_as_it_was_before(shop: Cluster, before: set[tuple[str, str, str]]) -> None:
    with pytest.raises(Exception, match="pods have a proxy"):
        shop.policyctl("uninstall")
    shop.kubectl("delete", "namespace", *OWN_NAMESPACES)

    shop.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=shop.policyctl("uninstall"))

    def same() -> bool:
        return not _differences(everything(shop.node), before)

    try:
        shop.node.wait("nothing is left", same, GONE_SECONDS)
    except Exception as error:
        raise AssertionError(_differences(everything(shop.node), before)) from error


def _differences(
    after: set[tuple[str, str, str]], before: set[tuple[str, str, str]]
) -> set[tuple[str, str, str]]:
    return {each for each in after ^ before if each[0] not in COMES_AND_GOES}
