"""Small sizes for the search, so that sets of a few codes walk every branch of it."""

import random
from collections.abc import Sequence

import pytest

from beam_dedup.core.codes import WordArray
from beam_dedup.core.matching import buckets, flat_join, hamming_join, near_pairs, selection, skew
from beam_dedup.core.matching.plan import ALL_WITH_ALL, Key, plan_for
from beam_dedup.core.matching.planner import Estimate
from beam_dedup.core.thresholds import Thresholds


def cut_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    """Cuts the work of the search into small pieces, of sizes that differ each time."""
    for name, sizes in {
        "_TILE": (1, 2, 5, 1024),
        "_AREA": (0, 0, 8, 1 << 15),
        "_STRETCH": (1, 3, 8, 1 << 15),
        "LONG_BUCKET": (1, 2, 4, 512),
        "_WIDE_BUCKET": (0, 1, 3, 64),
        "_WIDE_RECTANGLE": (0, 4, 1 << 11),
        "HOT_BUCKET": (1, 2, 4, 1 << 14),
        "_GROUPS": (1, 2, 100),
        "_FEW_LEFT": (0, 0.3, 0.6, 2),
        "_PICKED": (1, 4, 1 << 16),
        "_SHOWN_WORDS": (2, 7, 1 << 12),
    }.items():
        monkeypatch.setattr(hamming_join, name, rng.choice(sizes))
    monkeypatch.setattr(buckets, "_TABLE_BITS", rng.choice([0, 0, 0, 0, 8, 16]))
    monkeypatch.setattr(skew, "_SHOWN_KEYS", rng.choice([1, 3, 16]))
    monkeypatch.setattr(flat_join, "_RUN", rng.choice([2, 1 << 12]))
    monkeypatch.setattr(selection, "_MAX_PAIRS", rng.choice([0, 3, 1 << 23]))  # witnesses held at a time


def go_through_keys(monkeypatch: pytest.MonkeyPatch, by_keys: bool = True) -> None:
    """Makes the search go through all keys however few the codes are; or compare all with all however many."""

    def forced(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> Sequence[Key]:
        if not len(a) or not len(b) or not keys:
            return ()
        return keys if by_keys and ALL_WITH_ALL not in keys else (ALL_WITH_ALL,)

    monkeypatch.setattr(hamming_join, "worthwhile", forced)


def choose_subset(monkeypatch: pytest.MonkeyPatch, subset: int) -> None:
    """Makes the plan that is chosen where none is given one of keys of so many bands."""

    def chosen(thresholds: Thresholds, codes: int, bases: int) -> Estimate:
        plan = plan_for(thresholds, min(subset, thresholds.word_bits - thresholds.word_k))
        return Estimate(plan, thresholds.k, codes, plan.candidates(codes, bases), 0.0)

    monkeypatch.setattr(near_pairs, "choose", chosen)


def force(monkeypatch: pytest.MonkeyPatch, rng: random.Random, k: int) -> None:
    """All of that, mixed. k: of a word."""
    cut_small(monkeypatch, rng)
    choose_subset(monkeypatch, rng.randint(0, 4 if k <= 3 else 2))
    crowded = rng.choice([None, False, False, True])
    if crowded is not None:
        monkeypatch.setattr(hamming_join, "_crowded", lambda *_: crowded)
    if rng.random() < 0.7:  # so few codes would always be compared all with all
        go_through_keys(monkeypatch)
