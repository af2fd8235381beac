"""A fix allows the request it is for, says so of everything else it allows, and leaves the world as it was.

On the generator's worlds: one denial in `ONE_IN`. `POLICYD_FIX_WORLDS` scales it.
"""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from policyd.explain.answer import Decision, decide
from policyd.explain.fix import Fix, smallest_fix
from policyd.explain.manifests import Manifests
from policyd.explain.question import Caller, Facts, Question
from policyd.model.names import parse_workload
from tests.property.differential import encode
from tests.reference.generate import world as generate_world
from tests.reference.generate_requests import NOW_MILLIS, POD
from tests.reference.generate_requests import question as generate_question
from tests.reference.policytest import ask
from tests.reference.world import read_world

WORLDS = int(os.environ.get("POLICYD_FIX_WORLDS", "60"))
REQUESTS = 50
ONE_IN = 10
Body = dict[str, Any]


def question_of(body: Body) -> Question:
    """A generated case as the product's question."""
    given = encode(body, int(body["to"].rpartition(":")[2]))
    peer = given["from"]
    caller = Caller(
        peer["ip"],
        peer.get("identity"),
        peer.get("podUID"),
        peer.get("certificateSHA256"),
        peer.get("notBefore"),
        peer.get("notAfter"),
    )
    facts = Facts(POD.get("uid", ""), tuple(POD.get("addresses", ())), tuple(POD.get("probeAddresses", ())))
    at = datetime.fromtimestamp(NOW_MILLIS / 1000, UTC)
    return Question(given["port"], at, caller, given["request"], facts, given["tableAgeMillis"])


class Trial:
    """One generated world in a folder, and requests to it."""

    def __init__(self, seed: int, folder: Path) -> None:
        rng = Random(seed)
        self.documents = generate_world(rng)
        self.folder = folder
        (folder / "world.yaml").write_text(
            "\n---\n".join(json.dumps(one, indent=1) for one in self.documents)
        )
        workloads = list(read_world(self.documents).workloads)
        self.bodies = [generate_question(rng, workloads) for _ in range(REQUESTS)]
        self.manifests = Manifests.read([folder])

    def decide(self, body: Body, manifests: Manifests | None = None) -> Decision:
        read = manifests or self.manifests
        place = read.place(parse_workload(body["to"].rpartition(":")[0]))
        assert place is not None
        return decide(read, place, question_of(body))

    def fix(self, body: Body) -> Fix | None:
        place = self.manifests.place(parse_workload(body["to"].rpartition(":")[0]))
        assert place is not None
        return smallest_fix(self.manifests, place, question_of(body))

    def after(self, fix: Fix) -> Manifests:
        """The manifests with the fix applied by `patch`."""
        patch = shutil.which("patch")
        if patch is None:
            pytest.skip("patch is not installed")
        relative = fix.patch.replace(f"{self.folder}/", "")
        subprocess.run([patch, "-p0", "-s"], input=relative.encode(), check=True, cwd=self.folder)
        return Manifests.read([self.folder])


def documents_of(folder: Path) -> list[Body]:
    """The manifests as the reference reads them."""
    return [one for one in yaml.safe_load_all((folder / "world.yaml").read_text()) if one]


def concerned(fix: Fix, body: Body) -> bool:
    """Whether what else the fix allows mentions the workload and port of a request."""
    workload, _, port = body["to"].rpartition(":")
    return any(
        also.workload == workload and (port in also.ports.split(", ") or also.ports == "other")
        for also in fix.also_allows
    )


@pytest.mark.parametrize("seed", range(WORLDS))
def test_a_fix_allows_its_request_and_tells_what_else_it_allows(seed: int, tmp_path: Path) -> None:
    trial = Trial(seed, tmp_path)
    before = {place: trial.decide(body) for place, body in enumerate(trial.bodies)}
    denied = [place for place, decision in before.items() if not decision.allowed][::ONE_IN]
    original = (tmp_path / "world.yaml").read_text()
    for place in denied:
        state = trial.manifests.world.state_hash
        fix = trial.fix(trial.bodies[place])
        assert trial.manifests.world.state_hash == state
        if fix is None:
            continue
        after = trial.after(fix)
        assert trial.decide(trial.bodies[place], after).allowed
        reference = read_world(documents_of(tmp_path))
        assert ask(reference, trial.bodies[place], NOW_MILLIS, POD)["verdict"] == "allow"
        for other, body in enumerate(trial.bodies):
            opened = not before[other].allowed and trial.decide(body, after).allowed
            if opened:
                assert concerned(fix, body) or same_request(body, trial.bodies[place]), fix.patch
        (tmp_path / "world.yaml").write_text(original)


def same_request(one: Body, other: Body) -> bool:
    """Whether both are the same identity's for the same path: a new grant for exactly that allows both."""
    return one["to"] == other["to"] and who(one) == who(other) and what(one) == what(other)


def who(body: Body) -> list[str | None]:
    return [body["from"].get(key) for key in ("identity", "serviceAccount", "spiffeID")]


def what(body: Body) -> tuple[str, str]:
    if "grpc" in body:
        return "POST", f"/{body['grpc']['service']}/{body['grpc']['method']}"
    http = body.get("http", {})
    return http.get("method", "GET"), http.get("path", "").partition("?")[0]
