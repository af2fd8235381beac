"""`policyctl inject`: give pods their proxy in manifests, as the webhook would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from policyd.admission.inject import Injected, Left, Refused, inject_anyway
from policyd.admission.injection import Injection
from policyd.admission.templates import template_of, with_template
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
@click.option("--image", metavar="IMAGE", help="The proxy's image, in place of the settings'.")
def command(files: tuple[Path, ...], output: Written, config: Path | None, image: str | None) -> int:
    """Print manifests in which every pod, or template of pods, has its proxy.

    What was done with each object is said on stderr, one line each. Exits with 1 where a pod is refused: it
    is printed as it was.

    \b
    Examples:
      policyctl inject -f deploy.yaml | kubectl apply -f -
      kubectl get deploy -n books -o yaml | policyctl inject -f - | kubectl apply -f -
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    injection = _injection(config, image)
    documents = read_documents(files)
    made = [_injected(each, injection) for each in documents]
    print_documents([written for written, _ in made], output)
    return ExitCode.DONE if all(went_well for _, went_well in made) else ExitCode.NO


def _injection(config: Path | None, image: str | None) -> Injection:
    try:
        injection = Injection() if config is None else load_config(config, Injection)
        if image is None:
            return injection
        return Injection.model_validate(injection.model_dump(by_alias=True) | {"image": image})
    except ConfigError as error:
        raise Failure(str(error)) from error
    except ValueError as error:
        raise Failure(f"--image: {image!r}: expected an image's name") from error


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
