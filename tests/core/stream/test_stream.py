"""The protocol of streams against the definition, for any order of messages.

For images in order, see test_order.py.
"""

import random

import pytest

from tests.core.stream.stream_sets import MANY, check_truncated, each_k, some_truncated, start


@each_k
def test_verdicts_hold_for_any_order_of_messages(
    algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,104 sets: many in one stream, and some in a stream of their own."""
    for seed in range(6):
        sets = MANY if seed < 2 else 1
        mixed = random.Random(f"{seed} {k}").choice([0.1, 0.4, 0.7, 0.9])
        cases, stream = start(f"race {seed}", k, algorithm, sets, mixed, True, monkeypatch)
        stream.at_random(times=stream.rng.choice([1, 1, 2, 5]))
        stream.check(cases[0].k, cases[0].verify)


@each_k
def test_truncated_images_are_no_witnesses_in_any_order_of_messages(
    algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        sets = MANY if seed < 1 else 1
        mixed = random.Random(f"{seed} {k}").choice([0.1, 0.4, 0.7, 0.9])
        cases, stream = start(f"cut {seed}", k, algorithm, sets, mixed, True, monkeypatch)
        stream.items = some_truncated(stream.items, stream.rng)
        stream.at_random(times=stream.rng.choice([1, 1, 2, 5]))
        verdicts = stream.runner.verdicts()
        assert len(verdicts) + len(stream.rejected) == len(stream.items)
        check_truncated(stream.items, verdicts, cases[0].k, cases[0].verify)
