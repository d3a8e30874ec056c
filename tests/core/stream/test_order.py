"""Streams in which images arrive in order give the verdicts of the definition, and of a batch."""

import numpy as np
import pytest

from beam_dedup.core.matching import selection
from beam_dedup.core.model import Status
from tests.core.stream.stream_sets import MANY, each_k, in_order, start, thresholds_of, together
from tests.random_sets import arrays


@each_k
def test_images_one_by_one_get_the_verdicts_of_the_definition(
    algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        (case,), stream = start(f"in order {seed}", k, algorithm, 1, 0.0, True, monkeypatch)
        stream.one_by_one()
        stream.check(case.k, case.verify)
        found = sorted(stream.runner.verdicts(), key=lambda verdict: int(verdict.ref.name))
        wanted = in_order(stream.items, case.k, case.verify)
        assert [v.status for v in found] == [v.status for v in wanted]
        # With more digest shards, numbers have another order, which decides between equally near witnesses.
        if stream.runner.plan.digest_shards == 1:
            assert found == wanted


@each_k
def test_images_in_order_are_kept_as_in_a_batch(
    algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """506 sets; one image of each set arrives at a time."""
    cases, stream = start("as batch", k, algorithm, MANY, 0.0, False, monkeypatch)
    stream.one_by_one_of_each([case.images for case in cases])
    case = together(cases)
    kept, _ = selection.judge(arrays(case.codes), case.images, thresholds_of(case))
    found = {int(v.ref.name) for v in stream.runner.verdicts() if v.status == Status.KEPT}
    assert found == set(np.flatnonzero(kept).tolist())
    stream.check(case.k, case.verify)
