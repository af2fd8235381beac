"""Which pods there should be, and which can't be run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.sources.files import load
from policyd.up.plan import MOST_REPLICAS, Template, runnable, templates

DEPLOYMENT = """
apiVersion: apps/v1
kind: {kind}
metadata: {{name: web, namespace: shop}}
spec:
  {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      serviceAccountName: web
      containers:
        - {{name: web, image: web:1{command}}}
"""


def _templates(folder: Path, text: str) -> list[Template]:
    (folder / "w.yaml").write_text(text)
    return templates(load([folder]).objects)


@pytest.mark.parametrize(
    ("kind", "replicas", "expected"),
    [
        ("Deployment", "replicas: 3", 3),
        ("Deployment", "", 1),
        ("Deployment", "replicas: 0", 0),
        ("StatefulSet", "replicas: 1000", MOST_REPLICAS),
        ("DaemonSet", "", 1),
    ],
)
def test_replicas(tmp_path: Path, kind: str, replicas: str, expected: int) -> None:
    (template,) = _templates(tmp_path, DEPLOYMENT.format(kind=kind, replicas=replicas, command=""))
    assert (template.replicas, template.account, template.folder) == (expected, "web", tmp_path)


def test_a_job_does_not_run_all_the_time(tmp_path: Path) -> None:
    text = DEPLOYMENT.format(kind="Job", replicas="", command="").replace("apps/v1", "batch/v1")
    assert _templates(tmp_path, text) == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "no command: the image web:1 isn't run here"),
        (", command: [no-such-program-here]", "no-such-program-here: not found on PATH"),
        (", command: [./bin/web]", "./bin/web: no such file"),
        (", command: [sh, -c, 'true']", None),
    ],
)
def test_what_can_be_run(tmp_path: Path, command: str, why: str | None) -> None:
    (template,) = _templates(tmp_path, DEPLOYMENT.format(kind="Deployment", replicas="", command=command))
    run, skipped = runnable(template)
    assert [each.why for each in skipped] == ([why] if why else [])
    assert len(run) == (0 if why else 1)


def test_the_digest_is_the_templates(tmp_path: Path) -> None:
    """Another number of replicas makes no pod anew; another command does."""
    text = DEPLOYMENT.format(kind="Deployment", replicas="replicas: 1", command=", command: [sh]")
    (before,) = _templates(tmp_path, text)
    (scaled,) = _templates(tmp_path, text.replace("replicas: 1", "replicas: 2"))
    (changed,) = _templates(tmp_path, text.replace("[sh]", "[sh, -x]"))
    assert before.digest == scaled.digest != changed.digest
