"""The smallest change of manifests that allows a denied request, compiled and decided on again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from policyd.explain.answer import Explanation, explain
from policyd.explain.candidates import candidates
from policyd.explain.consequences import AlsoAllows, Shown, Tables, also_allows
from policyd.explain.edit import unified_diff
from policyd.explain.manifests import Manifests, Place
from policyd.explain.question import Question
from policyd.explain.situation import Candidate, Contents, Situation
from policyd.index.world import Change
from policyd.model.names import ObjectKey
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse

MOST_CHANGES = 3
"""How many changes one fix can have: more is no small change any more."""
MOST_TRIALS = 48
"""How many candidates are compiled and decided on."""


class Fix(msgspec.Struct, frozen=True, rename="camel"):
    """A verified change. `patch` is a unified diff; `patch -p0` applies it where the manifests were read.

    Of a cluster's objects each is a file that is named after it.
    """

    summary: tuple[str, ...]
    patch: str
    files: tuple[str, ...]
    also_allows: tuple[AlsoAllows, ...]


@dataclass(frozen=True, slots=True)
class _Trial:
    """Candidates taken one after the other, and what the question comes to with them."""

    steps: tuple[Candidate, ...]
    contents: Contents
    explanation: Explanation
    also: tuple[AlsoAllows, ...]


def smallest_fix(manifests: Manifests, place: Place, question: Question) -> Fix | None:
    """Return the smallest change found, None where there is none. The manifests are left as they were."""
    search = _Search(manifests, place, question)
    found = search.run()
    if found is None:
        return None
    steps = tuple(step.summary for step in found.steps)
    return Fix(steps, _patch(manifests, found.contents), tuple(sorted(found.contents)), found.also)


class _Search:
    """Breadth first: all single changes, then pairs, then triples."""

    def __init__(self, manifests: Manifests, place: Place, question: Question) -> None:
        self._manifests = manifests
        self._place = place
        self._question = question
        self._before: Tables = manifests.compiler.tables
        self._trials = 0

    def run(self) -> _Trial | None:
        first = explain(self._manifests, self._place, self._question)
        level = [_Trial((), {}, first, ())]
        for _ in range(MOST_CHANGES):
            tried = [trial for parent in level for trial in self._from(parent)]
            allowed = [trial for trial in tried if trial.explanation.allowed]
            if allowed:
                return min(allowed, key=self._size)
            level = [trial for trial in tried if _is_progress(level, trial)]
        return None

    def _from(self, parent: _Trial) -> Iterator[_Trial]:
        with applied(self._manifests, parent.contents):
            situation = Situation(
                self._manifests, self._place, self._question, parent.explanation, parent.contents
            )
            found = list(candidates(situation))
        for candidate in found:
            if self._trials >= MOST_TRIALS:
                return
            self._trials += 1
            yield self._try(parent, candidate)

    def _try(self, parent: _Trial, candidate: Candidate) -> _Trial:
        with applied(self._manifests, candidate.contents):
            explanation = explain(self._manifests, self._place, self._question)
            also: tuple[AlsoAllows, ...] = ()
            if explanation.allowed:
                also = tuple(
                    also_allows(self._before, self._manifests.compiler.tables, self._shown(explanation))
                )
        return _Trial((*parent.steps, candidate), candidate.contents, explanation, also)

    def _shown(self, explanation: Explanation) -> Shown:
        request = explanation.request or {}
        caller = self._question.caller
        return Shown(
            self._place.workload,
            self._question.port,
            caller.identity,
            request.get("method"),
            request.get("path"),
        )

    def _size(self, trial: _Trial) -> tuple[int, int, int, int]:
        """Fewer lines first, then less for whole groups, less at all, and the order of candidates."""
        lines = sum(line.startswith("+") for line in _patch(self._manifests, trial.contents).splitlines())
        groups = sum(not each.only_listed for each in trial.also)
        return lines, groups, len(trial.also), len(trial.steps)


def _patch(manifests: Manifests, contents: Contents) -> str:
    """Return the difference between what was read and other contents."""
    return "".join(unified_diff(file, manifests.text(file), text) for file, text in sorted(contents.items()))


def _is_progress(level: list[_Trial], trial: _Trial) -> bool:
    """Whether a change that did not suffice led to another denial, so that another change may complete it."""
    before = [
        (parent.explanation.step, parent.explanation.authorization, parent.explanation.near_misses)
        for parent in level
    ]
    now = trial.explanation
    return (now.step, now.authorization, now.near_misses) not in before


@contextmanager
def applied(manifests: Manifests, contents: Mapping[str, str]) -> Iterator[None]:
    """Let the manifests be as if files had other contents, for as long as the block lasts."""
    changes: dict[ObjectKey, Change] = {}
    originals: dict[ObjectKey, Change] = {}
    for file, text in contents.items():
        old = {key: found for key, found in manifests.world.objects.items() if found.document.file == file}
        new = {
            found.key: found for document in parse(text.encode(), file).documents if (found := read(document))
        }
        for key in old.keys() | new.keys():
            changes[key] = (key, new.get(key))
            originals[key] = (key, manifests.world.objects.get(key))
    manifests.compiler.apply(changes.values())
    try:
        yield
    finally:
        manifests.compiler.apply(originals.values())
