"""A check, what came of it, and how checks are run: in categories, one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from kubeapi.client import Client
from kubeapi.errors import ApiError

Outcome = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check. `detail` is what was found, `advice` what to do."""

    outcome: Outcome
    detail: str = ""
    advice: str = ""


OK = Result("ok")


def warning(detail: str, advice: str = "") -> Result:
    """Something to know; nothing is broken."""
    return Result("warning", detail, advice)


def error(detail: str, advice: str = "") -> Result:
    """Something that doesn't work, or won't."""
    return Result("error", detail, advice)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. Without what a `needed` check asks for, the rest of all can't be asked."""

    text: str
    ask: Callable[[Client], Awaitable[Result]]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """Checks that belong together, in their order."""

    name: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """A line as it is printed."""

    category: str
    text: str
    result: Result


async def run(client: Client, categories: Sequence[Category]) -> AsyncIterator[Reported]:
    """Yield what comes of each check. Raises ApiError where the API server can't be reached at all."""
    given_up = False
    for category in categories:
        for check in category.checks:
            if given_up:
                yield Reported(category.name, check.text, Result("skipped", "an earlier check failed"))
                continue
            result = await _ask(client, check)
            yield Reported(category.name, check.text, result)
            given_up = check.needed and result.outcome == "error"


async def _ask(client: Client, check: Check) -> Result:
    """Ask; what the API server refuses to tell is no fault of the cluster."""
    try:
        return await check.ask(client)
    except ApiError as refused:
        if refused.unreachable:
            raise
        if refused.not_allowed:
            return warning(f"can't be asked: {refused.message}", "run it as somebody who may read this")
        return error(str(refused))
