"""Small sizes for the search, so that sets of a few codes walk every branch of it."""

import random
from collections.abc import Sequence

import pytest

from beam_dedup.core import buckets, crowding, flat, judging, neighbours, pairing
from beam_dedup.core.choosing import Estimate
from beam_dedup.core.codes import WordArray
from beam_dedup.core.plan import ALL_WITH_ALL, Key, plan_for
from beam_dedup.core.within import Within


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
        monkeypatch.setattr(pairing, name, rng.choice(sizes))
    monkeypatch.setattr(buckets, "_TABLE_BITS", rng.choice([0, 0, 0, 0, 8, 16]))
    monkeypatch.setattr(crowding, "_SHOWN_KEYS", rng.choice([1, 3, 16]))
    monkeypatch.setattr(flat, "_RUN", rng.choice([2, 1 << 12]))
    monkeypatch.setattr(judging, "_MAX_PAIRS", rng.choice([0, 3, 1 << 23]))  # witnesses held at a time


def go_through_keys(monkeypatch: pytest.MonkeyPatch, by_keys: bool = True) -> None:
    """Makes the search go through all keys however few the codes are; or compare all with all however many."""

    def forced(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> Sequence[Key]:
        if not len(a) or not len(b) or not keys:
            return ()
        return keys if by_keys and ALL_WITH_ALL not in keys else (ALL_WITH_ALL,)

    monkeypatch.setattr(pairing, "worthwhile", forced)


def choose_subset(monkeypatch: pytest.MonkeyPatch, subset: int) -> None:
    """Makes the plan that is chosen where none is given one of keys of so many bands."""

    def chosen(within: Within, codes: int, bases: int) -> Estimate:
        plan = plan_for(within, min(subset, within.word_bits - within.word_k))
        return Estimate(plan, within.k, codes, plan.candidates(codes, bases), 0.0)

    monkeypatch.setattr(neighbours, "choose", chosen)


def force(monkeypatch: pytest.MonkeyPatch, rng: random.Random, k: int) -> None:
    """All of that, mixed. k: of a word."""
    cut_small(monkeypatch, rng)
    choose_subset(monkeypatch, rng.randint(0, 4 if k <= 3 else 2))
    crowded = rng.choice([None, False, False, True])
    if crowded is not None:
        monkeypatch.setattr(pairing, "_crowded", lambda *_: crowded)
    if rng.random() < 0.7:  # so few codes would always be compared all with all
        go_through_keys(monkeypatch)
