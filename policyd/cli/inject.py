"""`policyctl inject`: give pods their proxy in manifests, as the webhook would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from policyd.admission.inject import Injected, Left, Refused, inject_anyway
from policyd.admission.injection import Injection
from policyd.admission.templates import template_of, with_template
from policyd.checkup.reading import installed
from policyd.cli.cluster import Cluster, cluster_options
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.cli.manifest_files import (
    Written,
    manifest_options,
    named,
    print_documents,
    read_documents,
    report,
)
from policyd.install.configs import injection as injected_by
from policyd.resources.base import Document
from servicekit.config import ConfigError, load_config


@click.command("inject")
@manifest_options
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What to inject: the `injection` part of the injector's settings (JSON).",
)
@click.option("--installed", is_flag=True, help="What to inject: what the cluster's injector does.")
@click.option("--image", metavar="IMAGE", help="The proxy's image, in place of the settings'.")
@cluster_options
def command(files: tuple[Path, ...], output: Written, **options: Any) -> int:
    """Print manifests in which every pod, or template of pods, has its proxy.

    What was done with each object is said on stderr, one line each. Exits with 1 where a pod is refused: it
    is printed as it was.

    \b
    Examples:
      policyctl inject --installed -f deploy.yaml | kubectl apply -f -
      kubectl get deploy -n books -o yaml | policyctl inject --installed -f - | kubectl apply -f -
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    injection = _injection(options)
    documents = read_documents(files)
    made = [_injected(each, injection) for each in documents]
    print_documents([written for written, _ in made], output)
    return ExitCode.DONE if all(went_well for _, went_well in made) else ExitCode.NO


def _injection(options: Mapping[str, Any]) -> Injection:
    config, image = options["config"], options["image"]
    if config is not None and options["installed"]:
        raise Failure("expected --config or --installed, not both")
    try:
        injection = Injection() if config is None else load_config(config, Injection)
        if options["installed"]:
            injection = _of_the_cluster(options)
        if image is None:
            return injection
        return Injection.model_validate(injection.model_dump(by_alias=True) | {"image": image})
    except ConfigError as error:
        raise Failure(str(error)) from error
    except ValueError as error:
        raise Failure(f"--image: {image!r}: expected an image's name") from error


def _of_the_cluster(options: Mapping[str, Any]) -> Injection:
    """Return what an install injects, whoever made it; raises Failure where there is none."""
    namespace = options["namespace"]
    cluster = Cluster(options["kubeconfig"], options["context"])
    settings = cluster.ask(lambda client: installed(client, namespace))
    if settings is None:
        raise Failure(f"policyd isn't installed in {namespace}: -n says where it is", ExitCode.NOT_FOUND)
    return Injection.model_validate(injected_by(settings))


def _injected(document: Document, injection: Injection) -> tuple[Mapping[str, Any], bool]:
    """Return the object to print, and whether it is as asked for."""
    written, name = document.content, named(document)
    template = template_of(written)
    if template is None:
        report(f"{name}: left: it has no pods")
        return written, True
    outcome = inject_anyway(template, injection)
    match outcome:
        case Injected(pod, operations, warnings):
            report(f"{name}: {'injected' if operations else 'has its proxy already'}")
            for each in warnings:
                report(f"{name}: warning: {each.text}")
            return with_template(written, pod), True
        case Left(reason, _):
            report(f"{name}: left: {reason}")
            return written, True
        case Refused(problems):
            report(f"{name}: refused: {'; '.join(each.text for each in problems)}")
            return written, False
