"""What the injector writes into a pod is what the proxy's program takes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.inject import Injected, inject
from policyd.admission.injection import Injection
from policyd.up.environment import expand
from policyd.up.programs import find_proxy

POD = {"metadata": {"name": "app"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
FIELDS = {"POD_NAMESPACE": "books", "POD_NAME": "app-7d4b9c-x2x9z", "SERVICE_ACCOUNT": "web"}


def containers() -> list[dict[str, Any]]:
    found = inject(POD, NamespaceFacts("books", {"policyd.dev/inject": "enabled"}), Injection())
    assert isinstance(found, Injected)
    made: list[dict[str, Any]] = found.pod["spec"]["initContainers"]
    return made


def run(container: dict[str, Any], *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [str(find_proxy()), *container["command"][1:], *more]
    given = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=given)


def test_the_proxy_takes_the_settings_in_its_variable(tmp_path: Path) -> None:
    proxy = containers()[2]
    written = {each["name"]: each.get("value", "") for each in proxy["env"]}
    config = json.loads(expand(written["POLICYD_PROXY_CONFIG"], FIELDS))
    assert (config["namespace"], config["podName"]) == ("books", FIELDS["POD_NAME"])
    missing = run(proxy, "--check-config", POLICYD_PROXY_CONFIG=json.dumps(config))
    # All of it is read and found right; only the roots, which a volume brings, aren't on this machine.
    assert missing.returncode == 2
    assert config["rootsFile"] in missing.stderr
    config["podName"] = "../x"
    broken = run(proxy, "--check-config", POLICYD_PROXY_CONFIG=json.dumps(config))
    assert broken.returncode == 2
    assert "env:POLICYD_PROXY_CONFIG: podName: `../x`" in broken.stderr


def test_the_steps_have_words_that_the_program_knows() -> None:
    for step in containers()[:2]:
        assert run(step, "--help").returncode == 0, step["command"]
