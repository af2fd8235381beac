"""The canaries in a cluster: short-lived pods in a namespace made for them, which goes whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubeapi.client import Client, Request
from kubeapi.errors import ApiError
from kubeapi.path import ResourcePath
from policyd.admission.enrolment import NamespaceFacts
from policyd.admission.injection import PROXY
from policyd.admission.unmeshed import unmeshed
from policyd.canary.evidence import Evidence, expected
from policyd.canary.flock import BARE, CANARIES, PORT, ROLES, SERVER, Role
from policyd.canary.nest import LABEL, LONGEST_SECONDS, PREFIX, Nest, Object
from policyd.canary.verdicts import CATEGORY, judged
from policyd.checkup.check import Reported, Result, error, warning
from policyd.checkup.preflight import path_of
from policyd.checkup.reading import NAMESPACES, allowed, find, items
from policyd.errors import CanaryError
from policyd.explain.answer import Decision
from policyd.install.configs import injection_of
from policyd.install.settings import InstallSettings
from policyd.model.names import POLICYD, TRUST_BUNDLE
from policyd.resources.mesh_defaults import DEFAULT_NAME

SECONDS = 60.0
"""How long pods may take to start and to be answered. Where their images are on the node it takes 5 to 10."""
RECORD_SECONDS = 5.0
"""How long a proxy's line about a denial is waited for."""
POLL_SECONDS = 0.25
MOST_LOG_BYTES = 2**20
PROGRAM = "policyd-canary"
OUT = "the canaries are out"
_MESH_DEFAULTS = ResourcePath(POLICYD, "v1alpha1", "meshdefaults")
_NEEDED = (("create", "namespaces"), ("delete", "namespaces"), ("create", "pods"))


class InCluster:
    """One run against an install."""

    def __init__(self, client: Client, settings: InstallSettings, seconds: float = SECONDS) -> None:
        """`seconds`: how long all of it may take, but for clearing up."""
        images = settings.images
        self.nest = Nest(
            (PROGRAM,), f"{images.control_plane}:{images.tag}", images.pull_policy, seconds=seconds
        )
        self.evidence = Evidence()
        self._client = client
        self._settings = settings
        self._deadline = time.monotonic() + seconds
        self._pods: dict[str, Object] = {}

    async def report(self) -> list[Reported]:
        """Set the canaries out, judge what they say, clear up. Raises ApiError where nobody answers."""
        if not await self._may():
            return none_out(Result("skipped", "you may not create a namespace with pods"))
        try:
            told = await self._tried()
        finally:
            left = await asyncio.shield(asyncio.ensure_future(self._clear()))
        return told if left is None else [*told, Reported(CATEGORY, "nothing of them is left", left)]

    async def _tried(self) -> list[Reported]:
        """Do all but clearing up."""
        began = time.monotonic()
        try:
            await self._set_out()
            await self._hear()
            told = judged(self.evidence, await self._expected())
        except CanaryError as obstacle:
            return none_out(error(str(obstacle), obstacle.advice))
        except ApiError as refused:
            if refused.unreachable:
                raise
            why = f"the API server refused them: {refused.message}"
            return none_out(error(why, "see which rule refused"))
        out = Result("ok", f"{time.monotonic() - began:.1f} s, in {self.nest.namespace}")
        return [Reported(CATEGORY, OUT, out), *told]

    async def _may(self) -> bool:
        asked = [allowed(self._client, verb, ResourcePath("", "v1", plural)) for verb, plural in _NEEDED]
        return all(await asyncio.gather(*asked))

    async def _set_out(self) -> None:
        """Create all there is, the server first: its address is what the others are told."""
        made = (await self._client.create(NAMESPACES, self.nest.home())).json()
        await self._sweep(made["metadata"]["creationTimestamp"])
        for each in (*self.nest.accounts(), *self.nest.policies()):
            await self._create(each)
        await self._bundle()
        await self._create_pod(self.nest.server())
        address = await self._address()
        await asyncio.gather(
            *(self._create_pod(self.nest.caller(role, f"{address}:{PORT}")) for role in ROLES)
        )

    async def _sweep(self, now: str) -> None:
        """Remove what was left behind by somebody who was killed; another's that runs now stays."""
        oldest = _instant(now) - timedelta(seconds=2 * LONGEST_SECONDS)
        async for each in items(self._client, NAMESPACES, {"labelSelector": f"{LABEL}=true"}):
            metadata = each["metadata"]
            old = _instant(metadata["creationTimestamp"]) < oldest
            name = metadata["name"]
            others = name.startswith(PREFIX) and name != self.nest.namespace
            if old and others and "deletionTimestamp" not in metadata:
                with contextlib.suppress(ApiError):
                    await self._client.delete(NAMESPACES, name)

    async def _bundle(self) -> None:
        """Wait for identity's part: without the trust bundle a kubelet doesn't start a meshed pod."""
        path = ResourcePath("", "v1", "configmaps", self.nest.namespace)
        while await find(self._client, path, TRUST_BUNDLE) is None:
            await self._pause(
                f"identity writes no ConfigMap {TRUST_BUNDLE} into a new namespace",
                "`kubectl logs -l app.kubernetes.io/component=identity` in the control plane's namespace",
            )

    async def _create(self, body: Object) -> Object:
        path = path_of(body["apiVersion"], body["kind"], self.nest.namespace)
        return (await self._client.create(path, body)).json()

    async def _create_pod(self, body: Object) -> None:
        name = body["metadata"]["name"]
        made = await self._create(body)
        self._pods[name] = made
        facts = NamespaceFacts(self.nest.namespace, self.nest.home()["metadata"]["labels"])
        found = unmeshed(made, facts, injection_of(self._settings))
        if name != BARE and found is not None:
            raise CanaryError(
                f"its pod {name} was injected with no proxy of ours: {found.problem.text}", _HOOK
            )

    async def _address(self) -> str:
        while True:
            pod = await self._look(SERVER)
            address = (pod.get("status") or {}).get("podIP")
            if address:
                return str(address)
            await self._pause(f"the server has no address: {state_of(pod)}", _STUCK)

    async def _look(self, name: str) -> Object:
        self._pods[name] = (await self._client.get(self._path, name)).json()
        return self._pods[name]

    async def _pause(self, otherwise: str, advice: str) -> None:
        """Wait a moment. Raises CanaryError where there is none left."""
        if time.monotonic() >= self._deadline:
            raise CanaryError(otherwise, advice)
        await asyncio.sleep(POLL_SECONDS)

    async def _hear(self) -> None:
        """Read logs until all has been said, or time is up: what is missing then is told of by role."""
        while not self.evidence.is_whole and time.monotonic() < self._deadline:
            for role in self._silent():
                self.evidence.take_all(await self._log(role, "canary"))
            await asyncio.sleep(POLL_SECONDS)
        for role in self._silent():
            self.evidence.missing[role] = await self._why_silent(role)
        until = time.monotonic() + RECORD_SECONDS
        while self.evidence.unrecorded and time.monotonic() < until:
            for name in (SERVER, *(role for role in ROLES if role != BARE)):
                self.evidence.take_all(await self._log(name, PROXY))
            if self.evidence.unrecorded:
                await asyncio.sleep(POLL_SECONDS)

    def _silent(self) -> list[Role]:
        silent = {each.role for each in CANARIES if each.name not in self.evidence.heard}
        return [role for role in ROLES if role in silent]

    async def _why_silent(self, role: Role) -> str:
        for name in (SERVER, role):
            pod = await self._look(name)
            state = state_of(pod)
            if state:
                return f"pod {name}: {state}"
        return "its pod runs, and told nothing in time"

    async def _log(self, name: str, container: str) -> Iterable[str]:
        """Return what a container wrote; nothing where it hasn't begun."""
        params = {"container": container, "limitBytes": str(MOST_LOG_BYTES)}
        request = Request("GET", self._path.url(name, "log"), params, accept="*/*")
        try:
            answer = await self._client.send(request)
        except ApiError as refused:
            if refused.not_allowed:
                raise CanaryError(
                    f"the canaries' logs: {refused.message}", "you need `get` of pods/log"
                ) from None
            return ()
        return answer.body.decode("utf-8", "replace").splitlines()

    async def _expected(self) -> Mapping[str, Decision]:
        """Ask explain, of what was written here and of what holds for the whole cluster."""
        defaults = await find(self._client, _MESH_DEFAULTS, DEFAULT_NAME)
        pods = [self.nest.server(), *(self.nest.caller(role, "") for role in ROLES)]
        objects = [self.nest.home(), *self.nest.accounts(), *self.nest.policies(), *pods]
        if defaults is not None:
            kept = {key: defaults[key] for key in ("apiVersion", "kind", "spec") if key in defaults}
            objects.append(kept | {"metadata": {"name": DEFAULT_NAME}})
        with tempfile.TemporaryDirectory(prefix="policyd-canary-") as folder:
            domain = self._settings.trust_domain
            return expected(objects, Path(folder), domain, datetime.now(UTC))

    async def _clear(self) -> Result | None:
        """Remove the namespace, with all that is in it; say so where that can't be done."""
        name = self.nest.namespace
        try:
            await self._client.delete(NAMESPACES, name)
        except ApiError as refused:
            if refused.not_found:
                return None
            return warning(
                f"namespace {name} is left: {refused.message}", f"`kubectl delete namespace {name}`"
            )
        return None

    @property
    def _path(self) -> ResourcePath:
        return ResourcePath("", "v1", "pods", self.nest.namespace)


_HOOK = "see `kubectl get mutatingwebhookconfigurations policyd-injector`, and the injector's log"
_STUCK = "`kubectl describe` a pod of an enrolled namespace that doesn't start"


def none_out(why: Result) -> list[Reported]:
    """Return the lines where no canary could be tried."""
    skipped = Result("skipped", "the canaries aren't out")
    return [Reported(CATEGORY, OUT, why), *(Reported(CATEGORY, each.does, skipped) for each in CANARIES)]


def _instant(written: str) -> datetime:
    return datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def state_of(pod: Mapping[str, Any]) -> str:
    """Say in a line why a pod doesn't run; "" where it does."""
    status = pod.get("status") or {}
    for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = each.get("state") or {}
        ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
        if ended.get("exitCode"):
            return f"{each.get('name')} ended with {ended['exitCode']}"
        if waiting and waiting.get("reason") not in {None, "PodInitializing"}:
            return f"{each.get('name')} waits: {waiting['reason']}"
        if state.get("running") is not None and each.get("started") is False:
            return f"{each.get('name')} runs, and isn't ready: see its log"
    for each in status.get("conditions") or ():
        if each.get("type") == "PodScheduled" and each.get("status") != "True":
            return f"not scheduled: {each.get('message') or each.get('reason')}"
    phase = status.get("phase", "Pending")
    if phase == "Running":
        return ""
    return f"{phase}, and no kubelet says why" if phase == "Pending" else str(phase)
