"""P-20: the canaries find a mesh sound that is, and each way in which one isn't."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyd.canary import program
from policyd.canary.flock import CALLER, CANARIES, SERVER, STRANGER
from policyd.canary.loopback import Loopback, nest
from policyd.checkup.check import Result
from policyd.up.run import Running
from tests.api.rig import free_ports

ALL = {each.name for each in CANARIES}
NAME_OF = {each.does: each.name for each in CANARIES}
PROMISED_SECONDS = 10.0
"""P-20, on a machine that does nothing else. Here five engineers' tests may run beside."""
SLACK = 3.0

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of the test's own, which is empty afterwards."""
    with tempfile.TemporaryDirectory(prefix="pt-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)
        assert not list(Path(folder).rglob("*")), "the run left files behind"


async def results(run: Loopback) -> dict[str, Result]:
    return {NAME_OF[line.text]: line.result for line in await run.report()}


def failed(found: dict[str, Result]) -> set[str]:
    return {name for name, result in found.items() if result.outcome != "ok"}


class Altered(Loopback):
    """A mesh whose policies aren't those that explain is asked about."""

    def spec_of(self, objects: list[Json], kind: str) -> Json:
        (spec,) = [each["spec"] for each in objects if each["kind"] == kind]
        return spec

    def objects(self) -> list[Json]:
        objects = super().objects()
        return self.altered(objects)

    def altered(self, objects: list[Json]) -> list[Json]:
        raise NotImplementedError


class AllowsAll(Altered):
    def altered(self, objects: list[Json]) -> list[Json]:
        self.spec_of(objects, "Server")["accessPolicy"] = "all-unauthenticated"
        return objects


class ReadsLoosely(Altered):
    def altered(self, objects: list[Json]) -> list[Json]:
        self.spec_of(objects, "Server")["pathMode"] = "merge"
        return objects


class TakesAnybody(Altered):
    """Any identity will do."""

    def altered(self, objects: list[Json]) -> list[Json]:
        refs = self.spec_of(objects, "MeshTLSAuthentication")["identityRefs"]
        refs.append({"kind": "ServiceAccount", "name": STRANGER})
        return objects


class TakesPlaintext(Altered):
    """Nobody is asked for an identity."""

    def altered(self, objects: list[Json]) -> list[Json]:
        self.spec_of(objects, "AuthorizationPolicy")["requiredAuthenticationRefs"] = []
        return objects


class GrantsNothing(Altered):
    def altered(self, objects: list[Json]) -> list[Json]:
        return [each for each in objects if each["kind"] != "AuthorizationPolicy"]


class WithoutStranger(Altered):
    def altered(self, objects: list[Json]) -> list[Json]:
        return [each for each in objects if (each["kind"], each["metadata"]["name"]) != ("Pod", STRANGER)]


class SomebodyElses(Altered):
    """Another application answers in the server's place."""

    def altered(self, objects: list[Json]) -> list[Json]:
        for each in objects:
            if (each["kind"], each["metadata"]["name"]) == ("Pod", SERVER):
                for variable in each["spec"]["containers"][0]["env"]:
                    if variable["name"] == program.NONCE:
                        variable["value"] = "another"
        return objects


class Bypassed(Altered):
    """What is sent gets to the application without passing a proxy: nothing was redirected."""

    def __init__(self) -> None:
        super().__init__(replace(nest(), seconds=10.0))
        self._open = f"127.0.0.1:{free_ports(1)[0]}"

    def altered(self, objects: list[Json]) -> list[Json]:
        changed = {program.LISTEN: self._open, program.TARGET: self._open}
        for each in objects:
            if each["kind"] == "Pod":
                for variable in each["spec"]["containers"][0]["env"]:
                    if variable["name"] in changed:
                        variable["value"] = changed[variable["name"]]
        return objects

    def bare_target(self, started: Running) -> str:
        return self._open


class WithoutProxy(Loopback):
    """The server's proxy isn't there."""

    async def began(self, started: Running) -> None:
        await self.server(started).proxy.stop()


@pytest.mark.promise("P-20")
async def test_p_20_a_sound_mesh_is_proved_within_ten_seconds() -> None:
    began = time.monotonic()
    found = await results(Loopback(nest()))
    assert not failed(found), found
    assert time.monotonic() - began < PROMISED_SECONDS * SLACK
    assert found["ambiguous"].detail.startswith("400 invalid_request:G5")


@pytest.mark.promise("P-20")
@pytest.mark.parametrize(
    ("broken", "fails"),
    [
        (AllowsAll, {"denied", "plaintext", "wrong identity"}),
        (ReadsLoosely, {"ambiguous"}),
        (TakesAnybody, {"wrong identity"}),
        (TakesPlaintext, {"plaintext", "wrong identity"}),
        # Somebody without an identity, too, lacks a grant rather than an identity then.
        (GrantsNothing, {"allowed", "plaintext"}),
        (SomebodyElses, {"allowed"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_p_20_what_is_broken_fails_its_canaries_and_no_others(
    broken: type[Altered], fails: set[str]
) -> None:
    found = await results(broken(nest()))
    assert failed(found) == fails, found
    assert all(found[name].outcome == "error" and found[name].advice for name in fails), found


@pytest.mark.promise("P-20")
async def test_p_20_what_passes_by_the_proxy_is_told_from_what_it_lets_through() -> None:
    found = await results(Bypassed())
    assert failed(found) == ALL
    assert all("past its proxy" in result.detail for result in found.values()), found
    allowed = (await results(AllowsAll(nest())))["denied"]
    assert "past its proxy" not in allowed.detail


@pytest.mark.promise("P-20")
async def test_p_20_without_the_servers_proxy_nothing_is_answered() -> None:
    found = await results(WithoutProxy(replace(nest(), seconds=5.0)))
    assert failed(found) == ALL
    assert found["plaintext"].detail.startswith("no answer")
    assert found["allowed"].outcome == "error"


@pytest.mark.promise("P-20")
async def test_p_20_a_canary_that_was_never_out_is_no_success() -> None:
    found = await results(WithoutStranger(replace(nest(), seconds=8.0)))
    assert failed(found) == {"wrong identity"}
    assert "not tried" in found["wrong identity"].detail


def test_the_roles_are_all_in_the_flock() -> None:
    assert {each.role for each in CANARIES} == {CALLER, STRANGER, "bare"}
