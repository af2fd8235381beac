"""The trail of a cluster's policyd: asked through the API server, with the user's own credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kubeapi.errors import UNUSABLE, ApiError, in_stream
from kubeapi.path import ResourcePath
from policyd.audit_api.names import DENIALS, EXPLANATION, GROUP, GROUPS, MOST_LISTED, VERSION
from policyd.cli.cluster import Cluster
from policyd.cli.exit_codes import ExitCode
from policyd.cli.failures import Failure
from policyd.resources.instants import at_millis, rfc3339

if TYPE_CHECKING:
    from kubeapi.client import Client

WATCH_SECONDS = 240
SILENCE_SECONDS = 60.0
"""A watch says something every half minute, be it only that there is nothing."""
_MISUNDERSTOOD = frozenset({400, 405, 422})
_TEXTS = ("workload", "reason", "peer")
Question = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClusterTrail:
    """Answers what a store answers. `namespace` is that of denials that are looked for by id; None: any."""

    cluster: Cluster
    namespace: str | None = None

    def __call__(self, question: Question) -> Mapping[str, Any]:
        """Answer `denials` and `denial`. Raises Failure."""
        if question["ask"] == "denial":
            return self._asked(lambda client: self._find(client, str(question["id"])))
        by_group = question["by"] == "group"
        work = _groups if by_group else _records
        return self._asked(lambda client: work(client, question))

    def explanation(self, identifier: str) -> Mapping[str, Any]:
        """Return the explanation of a denial as the API gives it. Raises Failure."""

        async def ask(client: Client) -> Mapping[str, Any]:
            found = await self._find(client, identifier)
            if "ambiguous" in found:
                return found
            namespace, name = found["denial"]["namespace"], found["denial"]["id"]
            path = ResourcePath(GROUP, VERSION, DENIALS, namespace)
            explained = (await client.raw(path.url(name, EXPLANATION))).json()
            return {**explained, "record": found["denial"]}

        return self._asked(ask)

    def follow(self, wanted: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield denials since the beginning that is wanted, and then those that come. Raises Failure."""
        with asyncio.Runner() as runner:
            events = self._events(wanted)
            while True:
                try:
                    yield runner.run(_next(events))
                except ApiError as error:
                    raise _failure(error) from error

    async def _events(self, wanted: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        path = ResourcePath(GROUP, VERSION, DENIALS, wanted.get("namespace"))
        params = {**_params(wanted), "gaps": "true", "allowWatchBookmarks": "true"}
        params["timeoutSeconds"] = str(WATCH_SECONDS)
        async with self.cluster.client() as client:
            while True:
                longest = WATCH_SECONDS + SILENCE_SECONDS
                async with client.watch(path, params, SILENCE_SECONDS, longest) as lines:
                    async for line in lines:
                        found = msgspec.json.decode(line)
                        if found["type"] == "ERROR":
                            raise in_stream(msgspec.json.encode(found["object"]))
                        params["resourceVersion"] = found["object"]["metadata"]["resourceVersion"]
                        if found["type"] == "ADDED":
                            yield _told(found["object"])

    async def _find(self, client: Client, identifier: str) -> Mapping[str, Any]:
        answer = await _get(client, DENIALS, self.namespace, {"id": identifier, "limit": "20"})
        found = {each["record"].get("id"): _told(each) for each in answer["items"]}
        exact = found.get(identifier.lower())
        if exact is not None or len(found) == 1:
            return {"denial": exact or next(iter(found.values()))}
        if not found:
            where = f" in {self.namespace}" if self.namespace else ""
            raise Failure(f"{identifier}: no such denial is kept{where}", ExitCode.NOT_FOUND)
        return {"ambiguous": list(found.values()), "count": len(found)}

    def _asked(self, work: Callable[[Client], Awaitable[T]]) -> T:
        try:
            return self.cluster.ask(work)
        except ApiError as error:
            raise _failure(error) from error


async def _next(events: AsyncIterator[T]) -> T:
    return await anext(events)


async def _groups(client: Client, question: Question) -> Mapping[str, Any]:
    wanted = question["filter"]
    params = {**_params(wanted), "limit": str(question["limit"])}
    answer = await _get(client, GROUPS, wanted.get("namespace"), params)
    return {"denials": [each["group"] for each in answer["items"]], "gaps": answer["gaps"]}


async def _records(client: Client, question: Question) -> Mapping[str, Any]:
    """Return the newest, the oldest of them first, in as many answers as it takes."""
    wanted, limit = question["filter"], int(question["limit"])
    params = _params(wanted)
    items: list[Any] = []
    gaps: list[Any] | None = None
    while len(items) < limit:
        params["limit"] = str(min(limit - len(items), MOST_LISTED))
        answer = await _get(client, DENIALS, wanted.get("namespace"), params)
        gaps = answer["gaps"] if gaps is None else gaps
        items += answer["items"]
        params["continue"] = answer["metadata"].get("continue", "")
        if not params["continue"]:
            break
    return {"denials": [_told(each) for each in reversed(items)], "gaps": gaps or []}


async def _get(client: Client, plural: str, namespace: str | None, params: Mapping[str, str]) -> Any:
    path = ResourcePath(GROUP, VERSION, plural, namespace)
    answer = (await client.raw(path.url(), params)).json()
    if not isinstance(answer.get("items"), list):
        raise ApiError(200, UNUSABLE, f"{GROUP} answers something else than a list")
    return answer


def _told(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record, or a gap, as a store tells it."""
    if value["kind"] == "Gap":
        return dict(value["gap"])
    return {**value["record"], "place": int(value["metadata"]["resourceVersion"])}


def _params(wanted: Mapping[str, Any]) -> dict[str, str]:
    found = {name: str(wanted[name]) for name in _TEXTS if wanted.get(name)}
    for name in ("since", "until"):
        if wanted.get(name) is not None:
            found[name] = rfc3339(at_millis(wanted[name]), "milliseconds")
    return found | ({"wouldBe": "true"} if wanted.get("wouldBe") else {})


def _failure(error: ApiError) -> Failure:
    """Return what an answer means to the caller; a cluster without policyd is one that can't be asked."""
    if error.not_found and error.reason.startswith("HTTP"):
        message = (
            f"the cluster serves no {GROUP}: policyd isn't installed there, or `policyctl check` says more"
        )
        return Failure(message, ExitCode.UNREACHABLE)
    if error.not_allowed:
        return Failure(str(error), ExitCode.FORBIDDEN)
    if error.not_found:
        return Failure(error.message, ExitCode.NOT_FOUND)
    code = ExitCode.USAGE if error.status in _MISUNDERSTOOD else ExitCode.UNREACHABLE
    return Failure(str(error), code)
