"""Protected images in a stream: kept whatever arrived before them, and compared with all that arrive later."""

import dataclasses
import itertools
import random
from collections.abc import Sequence

import pytest

from beam_dedup.core.model import Fingerprint, Flag, ImageRef, Reason, Status, Verdict
from beam_dedup.core.stream.protocol import DETAILED_WORDS, exact_plan
from tests import oracle
from tests.core.stream.stream_sets import Item, Stream, items_of, random_plan, thresholds_of
from tests.core.stream.toy_engine import ToyRunner
from tests.random_sets import RandomSet, random_set


def protected(image: Fingerprint) -> Fingerprint:
    return dataclasses.replace(image, flags=(Flag.PROTECTED,))


def some_protected(items: Sequence[Item], rng: random.Random) -> list[Item]:
    """Returns the same items, some of which are protected; of equal bytes, each by itself."""
    share = rng.choice([0.1, 0.3, 0.7])
    return [
        item._replace(image=protected(item.image)) if item.image and rng.random() < share else item
        for item in items
    ]


def stream_of(seed: int, mixed: float) -> tuple[RandomSet, Stream]:
    rng = random.Random(f"protected {seed}")
    case = random_set(f"protected {seed}", rng.choice([0, 1, 4, 8]), views=rng.choice([0, 0, 2]))
    plan = random_plan(rng, thresholds_of(case), DETAILED_WORDS)
    return case, Stream(some_protected(items_of(case, rng), rng), ToyRunner(plan, rng, mixed))


def verdict_of_each(stream: Stream) -> dict[int, Verdict]:
    """Returns the verdicts by the numbers of the items."""
    verdicts = stream.runner.verdicts()
    found = {int(verdict.ref.name): verdict for verdict in verdicts}
    assert len(verdicts) + len(stream.rejected) == len(found) + len(stream.rejected) == len(stream.items)
    assert not any(cells.waiting for cells in stream.runner.state.values())
    return found


def is_near(one: Item, other: Item, case: RandomSet) -> bool:
    assert one.image
    assert other.image
    return one.image.digest == other.image.digest or bool(
        oracle.matches(one.codes, other.codes, case.k, case.verify)
    )


@pytest.mark.parametrize("seed", range(24))
def test_images_that_arrive_one_by_one_are_judged_by_the_definition(seed: int) -> None:
    """An image is kept if it is protected, or no kept one is within k."""
    case, stream = stream_of(seed, 0.0)
    stream.one_by_one()
    found = verdict_of_each(stream)
    kept: list[int] = []
    digests: set[bytes] = set()
    for number, item in enumerate(stream.items):
        if not item.image:
            continue
        is_protected = Flag.PROTECTED in item.image.flags
        is_copy = item.image.digest in digests
        digests.add(item.image.digest)
        is_replacing = Flag.REPLACES in found[number].flags
        wanted = is_protected or not (
            is_copy or any(is_near(item, stream.items[other], case) for other in kept)
        )
        assert (found[number].status == Status.KEPT) == (wanted or is_replacing), number
        assert not (is_replacing and is_protected)
        if wanted:
            kept.append(number)


@pytest.mark.parametrize("seed", range(36))
def test_guarantees_hold_in_any_order_of_messages(seed: int) -> None:
    case, stream = stream_of(seed, (0.1, 0.4, 0.7, 0.9)[seed % 4])
    stream.at_random(times=stream.rng.choice([1, 1, 2, 5]))
    found = verdict_of_each(stream)
    kept = {
        number
        for number, verdict in found.items()
        if verdict.status == Status.KEPT and Flag.REPLACES not in verdict.flags
    }
    safe = {n for n, item in enumerate(stream.items) if item.image and Flag.PROTECTED in item.image.flags}
    assert safe <= kept
    for one, other in itertools.combinations(sorted(kept), 2):
        near = is_near(stream.items[one], stream.items[other], case)
        assert not near or {one, other} & safe, f"two kept images within k: {one}, {other}"
    digests = {found[number].digest for number in kept}
    for number, verdict in found.items():
        if verdict.witness:
            assert verdict.witness.digest in digests
            witness = next(n for n in kept if found[n].digest == verdict.witness.digest)
            assert is_near(stream.items[number], stream.items[witness], case)
            assert (verdict.reason == Reason.EXACT) == (verdict.witness.digest == verdict.digest)


def test_protected_copies_of_the_same_bytes_are_kept_in_exact_mode() -> None:
    run = ToyRunner(exact_plan(2), random.Random(0))
    digest = b"\1" * 32
    images = [Fingerprint(ImageRef(uri, uri), digest, 1, 0, "PNG", 1, 1, "", ()) for uri in "abcd"]
    for image in (images[0], protected(images[1]), protected(images[2]), images[3]):
        run.read([image])
        run.run()
    found = {verdict.ref.uri: verdict.witness and verdict.witness.uri for verdict in run.verdicts()}
    assert found == {"a": None, "b": None, "c": None, "d": "a"}


def test_image_near_a_protected_copy_of_a_duplicate_is_a_duplicate() -> None:
    """The codes of the copy are compared although an earlier image has its bytes."""
    case = RandomSet(8, 256, 4, [oracle.Code(n, 0, oracle.FULL, (1 << 8 * n) - 1 << 192) for n in range(4)])
    rng = random.Random(1)
    items = items_of(case, rng, copies=False)
    assert items[1].image
    again = protected(dataclasses.replace(items[1].image, ref=ImageRef("again", "3")))
    # 1 duplicates 0; 2 is near 1 only.
    stream = Stream(
        [*items[:2], Item("again", "", again, items[1].codes), items[2]._replace(uri="2")],
        ToyRunner(random_plan(rng, thresholds_of(case), DETAILED_WORDS), rng),
    )
    stream.one_by_one()
    found = {verdict.ref.uri: verdict.witness and verdict.witness.uri for verdict in stream.runner.verdicts()}
    assert found == {"0": None, "1": "0", "again": None, "2": "again"}
