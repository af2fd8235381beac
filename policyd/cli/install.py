"""`policyctl install`: everything that runs in a cluster, as YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from identity.spiffe_id import TrustDomain
from kubeapi.errors import AccessError, ApiError
from policyd.checkup.reading import installed
from policyd.cli.cluster import Cluster, cluster_options
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.installing import print_objects, say_secret, settings_options
from policyd.cli.options import now
from policyd.cli.output import say
from policyd.errors import SourceError
from policyd.install.choices import chosen
from policyd.install.issuer import IssuerMaterial, check_given, make_issuer, write_secret
from policyd.install.objects import custom_resource_definitions, render
from policyd.install.settings import InstallSettings

MOST_PEM_BYTES = 256 * 1024
"""As identity reads (identity/guarded.py)."""


@dataclass(frozen=True, slots=True)
class Given:
    """Files of issuer material, as named on the command line."""

    roots: Path | None
    certificate: Path | None
    key: Path | None
    root_key_out: Path | None


@click.command("install")
@settings_options
@click.option("--ha", is_flag=True, help="Two replicas of each component, on two nodes if there are.")
@click.option("--crds", is_flag=True, help="Print only the CRDs, which are applied first.")
@click.option("--roots", type=click.Path(path_type=Path), metavar="FILE", help="Roots to trust, in PEM.")
@click.option("--issuer-crt", type=click.Path(path_type=Path), metavar="FILE", help="Issuing certificate.")
@click.option("--issuer-key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key.")
@click.option(
    "--root-key-out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the key of the root that is made (0600).",
)
@click.option("--ignore-cluster", is_flag=True, help="Don't look whether policyd is there already.")
@cluster_options
def command(crds: bool, **options: Any) -> int:
    """Print all that is to be installed, for `kubectl apply -f -`. Advice goes to stderr.

    Without --issuer-crt a root and an issuer are made. The root's key isn't part of what is printed:
    --root-key-out keeps it, and with it the next issuer can be signed.

    \b
    Examples:
      policyctl install --crds | kubectl apply --server-side -f -
      policyctl install --root-key-out root.key | kubectl apply -f -
      policyctl install --ha --set trustDomain=example.org --values company.yaml | kubectl apply -f -
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    if crds:
        print_objects(custom_resource_definitions())
        return ExitCode.DONE
    assignments = [*options["assignments"], *(["ha=true"] if options["ha"] else [])]
    if click.get_current_context().get_parameter_source("namespace") is ParameterSource.COMMANDLINE:
        assignments.append(f"namespace={options['namespace']}")
    settings = chosen(options["values"], assignments)
    if not options["ignore_cluster"]:
        _check_absent(Cluster(options["kubeconfig"], options["context"]), settings.namespace)
    files = Given(options["roots"], options["issuer_crt"], options["issuer_key"], options["root_key_out"])
    material = _material(settings, files)
    print_objects(render(settings, material))
    _advise(settings)
    return ExitCode.DONE


def _check_absent(cluster: Cluster, namespace: str) -> None:
    """Refuse to print a second issuer for a mesh that has one: applied, it would cut the mesh in two."""
    try:
        there = cluster.ask(lambda client: installed(client, namespace))
    except (AccessError, ApiError) as error:
        if isinstance(error, ApiError) and not error.unreachable:
            raise
        advice = "--ignore-cluster prints without asking whether policyd is there already"
        raise Failure(f"{error}; {advice}", ExitCode.UNREACHABLE) from error
    if there is not None:
        message = f"policyd is installed in {namespace}: `policyctl upgrade` keeps its issuer"
        raise Failure(f"{message}; --ignore-cluster prints a new one", ExitCode.NO)


def _material(settings: InstallSettings, files: Given) -> IssuerMaterial:
    trust_domain = TrustDomain(settings.trust_domain)
    named = (files.certificate, files.key)
    if settings.issuer.kind != "provided":
        if any(named) or files.root_key_out or files.roots is None:
            kind = settings.issuer.kind
            raise Failure(f"issuer.kind {kind}: expected --roots FILE, and no issuer or key with it")
        material = IssuerMaterial(_pem(files.roots))
    elif not any(named) and files.roots is None:
        return _made(trust_domain, files.root_key_out)
    elif files.certificate and files.key and files.roots and files.root_key_out is None:
        material = IssuerMaterial(_pem(files.roots), _pem(files.certificate), _pem(files.key))
    else:
        raise Failure("expected --roots, --issuer-crt and --issuer-key together, or none of them")
    check_given(material, trust_domain, now())
    return material


def _made(trust_domain: TrustDomain, root_key_out: Path | None) -> IssuerMaterial:
    made = make_issuer(trust_domain, now())
    root_ends, issuer_ends = (f"{each:%Y-%m-%d}" for each in (made.root_ends, made.issuer_ends))
    say(f"# A root (until {root_ends}) and an issuer (until {issuer_ends}) were made.")
    if root_key_out is None:
        say(
            "# The root's key was thrown away: before the issuer ends, another root must be rotated in.",
            "# --root-key-out FILE keeps it; keep it out of the cluster.",
        )
        return made.material
    try:
        write_secret(root_key_out, made.root_key)
    except OSError as error:
        raise SourceError(f"--root-key-out {root_key_out}: {error.strerror}") from error
    say(f"# The root's key is in {root_key_out}: keep it out of the cluster.")
    return made.material


def _pem(file: Path) -> str:
    try:
        with file.open(encoding="ascii") as opened:
            text = opened.read(MOST_PEM_BYTES + 1)
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: expected PEM") from error
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror}") from error
    if len(text) > MOST_PEM_BYTES:
        raise SourceError(f"{file}: expected at most {MOST_PEM_BYTES} bytes")
    return text


def _advise(settings: InstallSettings) -> None:
    if settings.images.control_plane.startswith("localhost/"):
        say(
            "# No image is published: `make images` makes them. Import them on every node, or push them and",
            "# say where: --set images.controlPlane=… --set images.proxy=…",
        )
    if settings.audit.kind == "pod" and settings.ha:
        say(
            "# Denials are kept in each policyd's pod, and go with it. A replica tells only of what its own",
            "# proxies delivered: who asks twice may see two halves. All of it, for good, is in PostgreSQL:",
            "# --set audit.kind=postgres --set audit.secret=NAME, a Secret with the key `connection`.",
        )
    elif settings.audit.kind == "pod":
        say("# Denials are kept in policyd's pod and go with it; --set audit.kind=claim keeps them longer.")
    elif settings.audit.kind == "postgres":
        say_secret(settings)
    say(
        "# The CRDs go first: policyctl install --crds | kubectl apply --server-side -f -",
        f"# Then: policyctl check -n {settings.namespace}",
    )
