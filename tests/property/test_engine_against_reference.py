"""Compile and engine decide as the naive reference evaluator does, on random worlds and requests.

`POLICYD_WORLDS` and `POLICYD_REQUESTS` scale it, `POLICYD_FIRST_SEED` moves it. `POLICYD_REPRODUCERS` is
where PolicyTests of disagreements are written (default: the test's temporary folder).
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.property.differential import Disagreement, run_world, write_reproducer

WORLDS = int(os.environ.get("POLICYD_WORLDS", "2000"))
REQUESTS = int(os.environ.get("POLICYD_REQUESTS", "100"))
FIRST_SEED = int(os.environ.get("POLICYD_FIRST_SEED", "0"))
AT_MOST = 20


def compare_worlds() -> tuple[int, list[Disagreement]]:
    """How many pairs ran, and the disagreements; not many more than `AT_MOST` of them."""
    pairs, found = 0, []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=context) as pool:
        seeds = range(FIRST_SEED, FIRST_SEED + WORLDS)
        for count, disagreements in pool.map(partial(run_world, requests=REQUESTS), seeds, chunksize=20):
            pairs += count
            found += disagreements
            if len(found) >= AT_MOST:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return pairs, found


def test_engine_and_reference_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, found = compare_worlds()
    folder = Path(os.environ.get("POLICYD_REPRODUCERS", str(tmp_path)))
    files = [str(write_reproducer(one, folder)) for one in found]
    with capsys.disabled():
        print(f"\nengine against reference: {pairs} pairs, {len(found)} disagreements")  # noqa: T201
    assert not files
