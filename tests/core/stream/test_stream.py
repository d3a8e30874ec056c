"""The protocol of streams against the definition, for any order of messages.

For images in order, see test_order.py.
"""

import random

import pytest

from tests.core.stream.stream_sets import MANY, each_k, start


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
