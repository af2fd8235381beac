"""`policyctl upgrade`: the same install from this version, or with other settings."""

from __future__ import annotations

from typing import Any

import click

from policyd.checkup.reading import installed, is_helms
from policyd.cli.cluster import Cluster, cluster_options
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.installing import print_objects, say_secret, settings_options
from policyd.cli.output import say
from policyd.install.choices import chosen
from policyd.install.configs import stored
from policyd.install.objects import render
from policyd.install.settings import VERSION, InstallSettings

_FIXED = ("trust_domain", "namespace")
"""What every certificate carries, and what every name leads to."""


@click.command("upgrade")
@settings_options
@cluster_options
def command(namespace: str, **options: Any) -> int:
    """Print what is installed as this version has it, for `kubectl apply -f -`.

    Settings are those of the install, with what --values and --set change. Images get this version's tag.
    Issuer and roots stay as they are in the cluster.

    \b
    Examples:
      policyctl install --crds | kubectl apply --server-side -f -
      policyctl upgrade | kubectl apply -f -
      policyctl upgrade --set ha=true | kubectl apply -f -
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    before = find_install(Cluster(options["kubeconfig"], options["context"]), namespace)
    values = stored(before)
    values["images"] = values["images"] | {"tag": VERSION}
    settings = chosen(options["values"], options["assignments"], values)
    for name in _FIXED:
        if getattr(settings, name) != getattr(before, name):
            raise Failure(f"{name} can't be changed by an upgrade: it is {getattr(before, name)}")
    if settings.issuer.kind not in {before.issuer.kind, "cert-manager"}:
        raise Failure("issuer.kind can't be changed by an upgrade, but to cert-manager")
    print_objects(render(settings, None))
    if settings.audit.kind == "postgres" and settings.audit.secret != before.audit.secret:
        say_secret(settings)
    say("# The CRDs go first: policyctl install --crds | kubectl apply --server-side -f -")
    return ExitCode.DONE


def find_install(cluster: Cluster, namespace: str) -> InstallSettings:
    """Return the settings of what is installed. Raises Failure: 5 where nothing is, 1 where it is Helm's."""
    settings = cluster.ask(lambda client: installed(client, namespace))
    if settings is None:
        raise Failure(f"policyd isn't installed in {namespace}: -n says where it is", ExitCode.NOT_FOUND)
    if cluster.ask(lambda client: is_helms(client, namespace)):
        raise Failure("Helm installed it: see `helm upgrade` and `helm uninstall`", ExitCode.NO)
    return settings
