"""Gateway API's own examples of what is invalid: none is taken for something that grants more (WH-06).

They come from Gateway API's Go module, as `go.mod` and `go.sum` beside this file say, and aren't copied. The
API server refuses them by its CRDs; here they get past it, as what was stored before or without these may.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from policyd.admission.validate import validate
from policyd.compile.compiler import Compiler
from policyd.compile.rows import Effect
from policyd.compile.table import CompiledTable
from policyd.index.world import World
from policyd.model.names import WorkloadName
from policyd.resources.base import Document, Unreadable
from policyd.resources.read import read

HERE = Path(__file__).parent
MODULE = "sigs.k8s.io/gateway-api"
FETCH_SECONDS = 120
EXAMPLES = 36
ROUTES = frozenset({"HTTPRoute", "GRPCRoute"})
NAMESPACE = "default"
PARENT = {"group": "policyd.dev", "kind": "Server", "name": "s"}
_BUNDLE = "gateway.networking.k8s.io"


def without_backends(rule: dict[str, Any]) -> None:
    del rule["backendRefs"]


def without_the_second(what: str) -> Callable[[dict[str, Any]], None]:
    def mend(rule: dict[str, Any]) -> None:
        for match in rule["matches"]:
            match[what] = match[what][:1]

    return mend


MEANT: dict[str, Callable[[dict[str, Any]], None]] = {
    # Gateway API itself says that of several entries of a name the first counts.
    "duplicate-header-match": without_the_second("headers"),
    "duplicate-query-match": without_the_second("queryParams"),
    # Where a route sends requests is no part of who may send them: nothing of it is enforced inbound.
    "httproute-portless-backend": without_backends,
    "httproute-portless-service": without_backends,
    "invalid-backend-group": without_backends,
    "invalid-backend-kind": without_backends,
}
"""Examples that are read without a word, and what they must then be the same as."""


@cache
def folder() -> Path | str:
    """Where the module is, or why it isn't there."""
    if shutil.which("go") is None:
        return "Go isn't on this machine"
    command = ["go", "mod", "download", "-json", MODULE]
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    try:
        done = subprocess.run(
            command, cwd=HERE, env=environment, capture_output=True, timeout=FETCH_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(getattr(error, "stderr", None) or error)
    return Path(json.loads(done.stdout)["Dir"]) / "hack" / "invalid-examples"


@pytest.fixture(scope="module")
def examples() -> dict[str, dict[str, Any]]:
    """The documents, by folder and name; skips, loudly, where they can't be had."""
    found = folder()
    if isinstance(found, str):
        missing = f"INVALID EXAMPLES NOT TRIED: {MODULE} can't be had: {found}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return dict(_documents(found))


def _documents(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(root.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            document["metadata"].setdefault("namespace", NAMESPACE)
            yield f"{file.parent.name}/{file.stem}", document


def on_our_server(route: Mapping[str, Any]) -> dict[str, Any]:
    """The same route, hanging on a Server instead of a Gateway."""
    moved = copy.deepcopy(dict(route))
    moved["spec"]["parentRefs"] = [PARENT]
    return moved


def table_of(route: dict[str, Any]) -> CompiledTable:
    """The table of a workload with the Server, the route, and an Allow for everybody on the route."""
    template = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "app"}]}}
    target = {"group": _BUNDLE, "kind": route["kind"], "name": route["metadata"]["name"]}
    ours = "policyd.dev/v1alpha1"
    specs = (
        ("apps/v1", "Deployment", "w", {"template": template}),
        (ours, "Server", "s", {"podSelector": {}, "port": 8080}),
        (ours, "AuthorizationPolicy", "p", {"targetRef": target, "requiredAuthenticationRefs": []}),
    )
    documents = [
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        for version, kind, name, spec in specs
    ]
    compiler = Compiler(World())
    found = [each for each in (read(Document(one)) for one in (*documents, route)) if each is not None]
    compiler.apply((each.key, each) for each in found)
    table = compiler.table(WorkloadName("deployment", NAMESPACE, "w"))
    assert table is not None
    return table


def test_wh_06_these_are_all_of_gateway_apis_invalid_examples(examples: dict[str, Any]) -> None:
    assert len(examples) == EXAMPLES
    assert set(MEANT) <= {name.rpartition("/")[2] for name in examples}


def test_wh_06_an_invalid_route_refuses_and_is_told_of_or_means_what_is_valid_of_it(
    examples: dict[str, dict[str, Any]],
) -> None:
    for name, document in examples.items():
        if document["kind"] not in ROUTES:
            continue
        route = on_our_server(document)
        judged = validate(route)
        mend = MEANT.get(name.rpartition("/")[2])
        if mend is not None:
            assert judged.errors == (), name
            mended = copy.deepcopy(route)
            for rule in mended["spec"]["rules"]:
                mend(rule)
            assert table_of(route).snapshot == table_of(mended).snapshot, name
            continue
        assert judged.errors, f"{name} would be stored without a word"
        assert all(error.field.startswith("spec.") for error in judged.errors), name
        rules = table_of(route).workload.rules
        refusing = [rule for rule in rules if rule.effect is Effect.REFUSE and not rule.audit]
        told = [rule for rule in refusing if document["metadata"]["name"] in rule.authorization]
        assert told, f"{name}: what can't be read must refuse"


def test_wh_06_an_invalid_grant_grants_nothing_and_other_kinds_are_nobodys_business(
    examples: dict[str, dict[str, Any]],
) -> None:
    for name, document in examples.items():
        found = read(Document(document))
        if document["kind"] == "ReferenceGrant":
            assert isinstance(found, Unreadable), name
        elif document["kind"] not in ROUTES:
            assert found is None, name
