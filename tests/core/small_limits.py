"""Makes the sizes of the search small, so that sets of a few codes reach every branch of it."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest

from beam_dedup.core.codes import WordArray
from beam_dedup.core.matching import buckets, flat_join, hamming_join, near_pairs, skew
from beam_dedup.core.matching.plan import ALL_WITH_ALL, Key, plan_for
from beam_dedup.core.matching.planner import Estimate
from beam_dedup.core.thresholds import Thresholds

MAX_PAIRS = (0, 3, 1 << 23)  # for the parameter of that name in `selection` and `rounds`

_JOIN_SIZES = {
    "tile": (1, 2, 5, 1024),
    "area": (0, 0, 8, 1 << 15),
    "chunk": (1, 3, 8, 1 << 15),
    "long_bucket": (1, 2, 4, 512),
    "wide_bucket": (0, 1, 3, 64),
    "wide_rectangle": (0, 4, 1 << 11),
    "hot_bucket": (1, 2, 4, 1 << 14),
    "groups": (1, 2, 100),
    "few_left": (0, 0.3, 0.6, 2),
    "picked": (1, 4, 1 << 16),
    "sample_words": (2, 7, 1 << 12),
}


def set_join_sizes(monkeypatch: pytest.MonkeyPatch, **sizes: Any) -> None:
    """Replaces some of the sizes of `hamming_join`; the fields of `JoinSizes`."""
    monkeypatch.setattr(hamming_join, "SIZES", dataclasses.replace(hamming_join.SIZES, **sizes))


def cut_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    """Divides the work of the search into small pieces, of random sizes."""
    set_join_sizes(monkeypatch, **{name: rng.choice(sizes) for name, sizes in _JOIN_SIZES.items()})
    monkeypatch.setattr(buckets, "TABLE_BITS", rng.choice([0, 0, 0, 0, 8, 16]))
    monkeypatch.setattr(skew, "SAMPLED_KEYS", rng.choice([1, 3, 16]))
    monkeypatch.setattr(flat_join, "RUN", rng.choice([2, 1 << 12]))


def go_through_keys(monkeypatch: pytest.MonkeyPatch, by_keys: bool = True) -> None:
    """Makes the search use all keys, however few the codes are; or, if False, compare all with all, however
    many they are.
    """

    def forced(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> Sequence[Key]:
        if not len(a) or not len(b) or not keys:
            return ()
        return keys if by_keys and ALL_WITH_ALL not in keys else (ALL_WITH_ALL,)

    monkeypatch.setattr(hamming_join, "worthwhile", forced)


def choose_subset(monkeypatch: pytest.MonkeyPatch, subset: int) -> None:
    """Makes the planner choose keys of a number of bands, where no plan is given."""

    def chosen(thresholds: Thresholds, codes: int, bases: int) -> Estimate:
        plan = plan_for(thresholds, min(subset, thresholds.word_bits - thresholds.word_k))
        return Estimate(plan, thresholds.k, codes, plan.candidates(codes, bases), 0.0)

    monkeypatch.setattr(near_pairs, "choose", chosen)


def force_crowded(monkeypatch: pytest.MonkeyPatch, crowded: bool) -> None:
    """Makes the search believe that keys are crowded, or that they are not."""
    monkeypatch.setattr(hamming_join, "is_crowded", lambda *_: crowded)


def force(monkeypatch: pytest.MonkeyPatch, rng: random.Random, k: int) -> None:
    """Does a random mixture of the above. k: maximum distance of a word, in bits."""
    cut_small(monkeypatch, rng)
    choose_subset(monkeypatch, rng.randint(0, 4 if k <= 3 else 2))
    crowded = rng.choice([None, False, False, True])
    if crowded is not None:
        force_crowded(monkeypatch, crowded)
    if rng.random() < 0.7:  # so few codes would otherwise always be compared all with all
        go_through_keys(monkeypatch)
