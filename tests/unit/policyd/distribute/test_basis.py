"""Counters that never go back, and what a proxy's basis means to us."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyd.distribute.basis import Counters, behind
from policyd.errors import SourceError
from policyd_api.v1 import stream_pb2 as wire


def test_counters_rise_over_restarts(tmp_path: Path) -> None:
    """CT-08: whenever it was killed, nothing older than what was told comes after it."""
    highest = 0
    for restart in range(5):
        counters = Counters(tmp_path / "basis.json", ["a"])
        for _ in range(restart * 700):
            counters.advance("a")
        (row,) = counters.rows()
        assert row[:2] == ("a", "*")
        assert row[2] > highest
        highest = row[2]


class Killed(BaseException):
    """The process ends here, as if by SIGKILL."""


KILLS = 1000


def test_ct_08_wherever_it_is_killed_nothing_is_handed_out_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(8)
    left = 0

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        """The same, but that it is the last thing that happens, or doesn't any more."""

        def done(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and dice.random() < 0.5:
                raise Killed
            answer = work(*given, **named)
            if left == 0:
                raise Killed
            return answer

        return done

    monkeypatch.setattr("policyd.distribute.basis._RESERVE", 3)
    monkeypatch.setattr(Path, "replace", dying(Path.replace))
    monkeypatch.setattr(json, "dump", dying(json.dump))
    monkeypatch.setattr(os, "fsync", dying(os.fsync))
    highest = killed = 0
    for _ in range(KILLS):
        left = dice.randint(1, 12)
        try:
            counters = Counters(tmp_path / "basis.json", ["a"])
            while True:
                ((_, _, revision),) = counters.rows()
                assert revision > highest
                highest = revision
                counters.advance("a")
        except Killed:
            killed += 1
    assert killed == KILLS


def test_most_advances_write_nothing(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "basis.json", ["a"])
    before = (tmp_path / "basis.json").stat().st_mtime_ns
    for _ in range(1000):
        counters.advance("a")
    assert (tmp_path / "basis.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["", "[]", '{"a": -1}', '{"a": "x"}', "{"])
def test_a_broken_file_is_no_zero(tmp_path: Path, content: str) -> None:
    (tmp_path / "basis.json").write_text(content)
    with pytest.raises(SourceError, match=r"basis\.json"):
        Counters(tmp_path / "basis.json", ["a"])


def _held(epoch: int = 0, **revisions: int) -> wire.Held:
    rows = [wire.Basis(source=source, kind="*", revision=revision) for source, revision in revisions.items()]
    return wire.Held(epoch=epoch, basis=rows)


@pytest.mark.parametrize(
    ("held", "epoch", "is_behind"),
    [
        (None, 0, False),
        (_held(a=5), 0, False),
        (_held(a=6), 0, True),
        (_held(a=5, b=1), 0, True),
        (_held(b=1), 0, True),
        (_held(a=99), 1, False),
        (_held(1, a=1), 0, True),
        (_held(1, a=5), 1, False),
        (_held(1, a=6), 1, True),
    ],
)
def test_behind(held: wire.Held | None, epoch: int, is_behind: bool) -> None:
    assert (behind([("a", "*", 5)], epoch, held) is not None) == is_behind
