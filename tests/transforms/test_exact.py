"""Compares `MarkExactDuplicates` with its definition: of images with equal digests, the first by URI is kept."""

import random
import re
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_dedup.core.model import Fingerprint, Reason, Status, Verdict
from tests.transforms.batches import Batch, in_order, random_batch
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import BatchFingerprints, MarkExactDuplicates, UnbatchVerdicts, exact
from transforms.batching import FINGERPRINTS_PER_BLOCK

BATCH = random_batch("exact", 8, 48, sets=40)


def definition(fingerprints: list[Fingerprint]) -> list[tuple[str, Status, Reason | None, str | None]]:
    """Returns (URI, status, reason, URI of the kept image) of each image, by URI."""
    kept: dict[bytes, str] = {}
    judged: list[tuple[str, Status, Reason | None, str | None]] = []
    for image in sorted(fingerprints, key=lambda fingerprint: fingerprint.ref.uri):
        witness = kept.setdefault(image.digest, image.ref.uri)
        if witness == image.ref.uri:
            judged.append((image.ref.uri, Status.KEPT, None, None))
        else:
            judged.append((image.ref.uri, Status.DUPLICATE, Reason.EXACT, witness))
    return judged


def judge(
    fingerprints: list[Fingerprint],
    mark: MarkExactDuplicates,
    *flags: str,
    block_size: int = FINGERPRINTS_PER_BLOCK,
) -> list[Verdict]:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        single = pipeline | beam.Create(fingerprints).with_output_types(Fingerprint)
        images = single | BatchFingerprints(block_size)
        return {"verdicts": images | "Mark" >> mark | UnbatchVerdicts()}

    return in_order(run(build, *flags).values["verdicts"])


def outcomes(verdicts: list[Verdict]) -> list[tuple[str, Status, Reason | None, str | None]]:
    return [
        (verdict.ref.uri, verdict.status, verdict.reason, verdict.witness.uri if verdict.witness else None)
        for verdict in verdicts
    ]


@pytest.mark.parametrize(
    ("digest_shards", "block_size", "flags"),
    [
        (64, 1024, ()),
        (1, 1, REPEATED),
        (3, 7, THREADS),
    ],
)
def test_verdicts_agree_with_the_definition(
    digest_shards: int, block_size: int, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "BATCH_BYTES", 1 if block_size == 1 else exact.BATCH_BYTES)
    expected = definition(BATCH.fingerprints)
    assert sum(status == Status.DUPLICATE for _, status, _, _ in expected) > 50
    shuffled = random.Random(digest_shards).sample(BATCH.fingerprints, len(BATCH.fingerprints))
    assert (
        outcomes(judge(shuffled, MarkExactDuplicates(digest_shards), *flags, block_size=block_size))
        == expected
    )


def test_the_witness_is_the_kept_image_at_distance_0() -> None:
    images = {image.ref.uri: image for image in BATCH.fingerprints}
    for verdict in judge(BATCH.fingerprints, MarkExactDuplicates()):
        image = images[verdict.ref.uri]
        assert (verdict.ref, verdict.digest, verdict.size_bytes) == (
            image.ref,
            image.digest,
            image.size_bytes,
        )
        assert verdict.group == image.digest.hex()
        if witness := verdict.witness:
            assert (witness.digest, witness.distance, witness.long_distance) == (image.digest, 0, None)
            assert witness.view == "base"


def test_each_window_is_judged_by_itself() -> None:
    batches = [BATCH, random_batch("second", 8, 48, sets=3), BATCH, Batch([], [])]
    timed = [(60 * i, image) for i, batch in enumerate(batches) for image in batch.fingerprints]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        images = pipeline | beam.Create(timed) | beam.MapTuple(stamp).with_output_types(Fingerprint)
        batched = images | beam.WindowInto(FixedWindows(60)) | BatchFingerprints()
        return {"verdicts": batched | MarkExactDuplicates() | UnbatchVerdicts()}

    ran = run(build)
    for i, batch in enumerate(batches):
        pairs = zip(ran.windows["verdicts"], ran.values["verdicts"], strict=True)
        here = in_order([verdict for window, verdict in pairs if window == 60 * i])
        assert outcomes(here) == definition(batch.fingerprints)


def stamp(seconds: int, fingerprint: Fingerprint) -> Any:
    return TimestampedValue(fingerprint, seconds)


def test_a_repeated_uri_is_an_error_that_names_it() -> None:
    image = BATCH.fingerprints[7]
    with pytest.raises(Exception, match=re.escape(repr(image.ref.uri))):
        judge([*BATCH.fingerprints, image], MarkExactDuplicates())


def test_no_images_give_no_verdicts() -> None:
    assert judge([], MarkExactDuplicates()) == []


def test_types_are_declared() -> None:
    fingerprints = beam.Pipeline(options=PipelineOptions([])) | beam.Create(BATCH.fingerprints)
    batched = fingerprints | BatchFingerprints()
    assert batched.element_type is bytes
    judged = batched | MarkExactDuplicates()
    assert judged.element_type is bytes
    assert (judged | UnbatchVerdicts()).element_type is Verdict
