"""`policyctl uninject`: take out of manifests what `policyctl inject` put there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from policyd.admission.inject import uninject
from policyd.admission.templates import template_of, with_template
from policyd.cli.exit_codes import ExitCode
from policyd.cli.manifest_files import (
    Written,
    manifest_options,
    named,
    print_documents,
    read_documents,
    report,
)
from policyd.resources.base import Document


@click.command("uninject")
@manifest_options
def command(files: tuple[Path, ...], output: Written) -> int:
    """Print manifests without the proxies that were injected.

    \b
    Examples:
      kubectl get deploy -n books -o yaml | policyctl uninject -f - | kubectl apply -f -
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    print_documents([_uninjected(each) for each in read_documents(files)], output)
    return ExitCode.DONE


def _uninjected(document: Document) -> Mapping[str, Any]:
    written, name = document.content, named(document)
    template = template_of(written)
    if not isinstance(template, Mapping):
        report(f"{name}: left: it has no pods")
        return written
    without = uninject(template)
    if without == template:
        report(f"{name}: left: it has no proxy")
        return written
    report(f"{name}: its proxy is taken out")
    return with_template(written, without)
