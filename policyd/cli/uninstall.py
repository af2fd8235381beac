"""`policyctl uninstall`: everything that was installed, for `kubectl delete -f -`."""

from __future__ import annotations

from typing import Any

import click

from identity.cluster import cluster_bundle
from kubeapi.client import Client
from kubeapi.path import ResourcePath
from policyd.checkup.reading import NAMESPACES, PODS, find, has_proxy, items
from policyd.cli.cluster import Cluster, cluster_options
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.installing import print_objects
from policyd.cli.output import say
from policyd.cli.upgrade import find_install
from policyd.install.issuer import IssuerMaterial
from policyd.install.objects import custom_resource_definitions, in_order_of_removal, render
from policyd.install.settings import InstallSettings
from policyd.model.names import TRUST_BUNDLE

MOST_NAMED = 10
"""How many pods a refusal names."""
Object = dict[str, Any]


@click.command("uninstall")
@click.option("--force", is_flag=True, help="Also while pods have a proxy: they keep it, and its last table.")
@click.option("--keep-policies", is_flag=True, help="Leave the CRDs and all policies.")
@cluster_options
def command(force: bool, keep_policies: bool, namespace: str, **options: Any) -> int:
    """Print everything that was installed, for `kubectl delete -f -`. With the CRDs all policies go.

    Refuses while pods have a proxy: take the namespaces' label policyd.dev/inject away and restart them.

    \b
    Examples:
      policyctl uninstall | kubectl delete --ignore-not-found -f -
      policyctl uninstall --keep-policies | kubectl delete --ignore-not-found -f -
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    cluster = Cluster(options["kubeconfig"], options["context"])
    settings = find_install(cluster, namespace)
    injected = cluster.ask(_injected)
    if injected and not force:
        named = ", ".join(injected[:MOST_NAMED]) + (", …" if len(injected) > MOST_NAMED else "")
        raise Failure(f"{len(injected)} pods have a proxy: {named}; --force leaves them so", ExitCode.NO)
    bundles = cluster.ask(_bundles)
    print_objects(_removed(settings, bundles, keep_policies=keep_policies))
    if not keep_policies:
        say("# With the CRDs all policies are deleted; --keep-policies leaves them.")
    return ExitCode.DONE


def _removed(settings: InstallSettings, bundles: list[Object], *, keep_policies: bool) -> list[Object]:
    """Return all objects by name alone, what acts first; bundles after what would write them again."""
    crds = [] if keep_policies else custom_resource_definitions()
    objects = render(settings, IssuerMaterial("", "", ""))
    if keep_policies:
        objects = [each for each in objects if each["kind"] != "MeshDefaults"]
    # The namespace is the first of `objects`: bundles go after whoever would write them again, and before it.
    return [_named(each) for each in in_order_of_removal([*crds, objects[0], *bundles, *objects[1:]])]


def _named(value: Object) -> Object:
    metadata = {key: value["metadata"][key] for key in ("name", "namespace") if key in value["metadata"]}
    return {"apiVersion": value["apiVersion"], "kind": value["kind"], "metadata": metadata}


async def _injected(client: Client) -> list[str]:
    """Name the pods that have a proxy and stay; those of a namespace that ends go with it."""
    ending = {
        each["metadata"]["name"]
        async for each in items(client, NAMESPACES)
        if "deletionTimestamp" in each["metadata"]
    }
    found = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        async for pod in items(client, PODS)
        if has_proxy(pod) and pod["metadata"]["namespace"] not in ending
    ]
    return sorted(found)


async def _bundles(client: Client) -> list[Object]:
    """Return the trust bundles that identity wrote: one in each namespace, and the cluster's."""
    maps = ResourcePath("", "v1", "configmaps")
    found: list[Object] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": bundle["metadata"]}
        async for bundle in items(client, maps, {"fieldSelector": f"metadata.name={TRUST_BUNDLE}"})
    ]
    found.sort(key=lambda each: str(each["metadata"]["namespace"]))
    for version in cluster_bundle.VERSIONS:
        path = ResourcePath(cluster_bundle.GROUP, version, "clustertrustbundles")
        bundle = await find(client, path, cluster_bundle.NAME)
        if bundle is not None:
            kind = {"apiVersion": f"{path.group}/{version}", "kind": "ClusterTrustBundle"}
            return [*found, kind | {"metadata": bundle["metadata"]}]
    return found
