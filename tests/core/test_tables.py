"""Fingerprints and verdicts are unchanged after conversion to blocks and back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core import blocks
from beam_dedup.core.codes import VIEWS
from beam_dedup.core.model import (
    Code,
    CodeKind,
    Fingerprint,
    Flag,
    ImageRef,
    Reason,
    Status,
    Verdict,
    Witness,
)
from beam_dedup.core.tables import fingerprints_of, fingerprints_table, verdicts_of, verdicts_table

SETTINGS = settings(derandomize=True, deadline=None, max_examples=150)
SIZES = {
    CodeKind.FULL: 32,
    CodeKind.TINY: 8,
    CodeKind.FLAT: 96,
    CodeKind.HASH: 8,
    CodeKind.WIDE: 32,
    CodeKind.METADATA: 8,
    CodeKind.DETAILED: 96,
}

# Names as os.fsdecode returns them, which may be any bytes.
names = st.binary(max_size=6).map(lambda name: name.decode("utf-8", "surrogateescape"))
int32, int64 = st.integers(0, (1 << 31) - 1), st.integers(0, (1 << 63) - 1)
digests = st.binary(min_size=32, max_size=32)
codes = st.sampled_from(CodeKind).flatmap(
    lambda kind: st.builds(
        Code, st.just(kind), st.binary(min_size=SIZES[kind], max_size=SIZES[kind]), st.sampled_from(VIEWS)
    )
)
flags = st.lists(st.sampled_from(Flag), unique=True).map(tuple)
fingerprints = st.builds(
    Fingerprint,
    ref=st.builds(ImageRef, names, names, names, st.booleans()),
    digest=digests,
    size_bytes=int64,
    modified_ms=st.integers(-(1 << 63), (1 << 63) - 1),
    format=names,
    width=int32,
    height=int32,
    algorithm=names,
    codes=st.lists(codes, max_size=3).map(tuple),
    flags=flags,
    detail=names,
    taken=int64,
    metadata_kinds=st.integers(0, 255),
)
witnesses = st.builds(
    Witness, names, st.binary(max_size=32), int32, st.none() | int32, st.sampled_from(VIEWS)
)
verdicts = st.builds(
    Verdict,
    ref=st.builds(ImageRef, names, names, names),
    status=st.sampled_from(Status),
    reason=st.none() | st.sampled_from(Reason),
    digest=st.just(b"") | digests,
    fingerprint=st.binary(max_size=96),
    algorithm=names,
    witness=st.none() | witnesses,
    width=int32,
    height=int32,
    format=names,
    size_bytes=int64,
    flags=flags,
    detail=names,
    kept_by=names,
)


@SETTINGS
@given(st.lists(st.lists(fingerprints, max_size=3), max_size=3))
def test_fingerprints_survive_blocks(parts: list[list[Fingerprint]]) -> None:
    made = [blocks.dump(fingerprints_table(part)) for part in parts]
    assert list(fingerprints_of(blocks.load(made, blocks.FINGERPRINTS))) == [
        fingerprint for part in parts for fingerprint in part
    ]


@SETTINGS
@given(st.lists(st.lists(verdicts, max_size=3), max_size=3))
def test_verdicts_survive_blocks(parts: list[list[Verdict]]) -> None:
    made = [blocks.dump(verdicts_table(part)) for part in parts]
    found = list(verdicts_of(blocks.load(made, blocks.VERDICTS)))
    assert found == [verdict for part in parts for verdict in part]
    assert all(verdict.reason is None or verdict.reason.meaning for verdict in found)


@SETTINGS
@given(st.lists(fingerprints, max_size=8), st.integers(1, 5))
def test_split_by_digest_shard(images: list[Fingerprint], count: int) -> None:
    table = fingerprints_table(images)
    digest_shards = blocks.digest_shards(table, count)
    parts = dict(blocks.split(table, digest_shards))
    assert sum(map(len, parts.values())) == len(images)
    for shard, part in parts.items():
        # The parts are slices, whose offset functions that read buffers must respect.
        wanted = [image for image in images if int.from_bytes(image.digest[:4], "big") % count == shard]
        assert list(fingerprints_of(part)) == wanted
        assert blocks.digest_shards(part, count).tolist() == [shard] * len(part)
        assert list(fingerprints_of(blocks.load([blocks.dump(part)], blocks.FINGERPRINTS))) == wanted
        assert blocks.joined(part["uri"]) == b"".join(blocks.to_bytes(image.ref.uri) for image in wanted)
