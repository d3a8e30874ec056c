"""Archives truncated, altered and spliced at random give items or errors as items, in bounded time."""

import io
import random
import time

import pytest

from beam_dedup.core.archives.containers import container_of, members, read_members
from beam_dedup.core.archives.members import Member
from beam_dedup.core.limits import Limits
from tests.core.archives.made_archives import (
    COMPRESSORS,
    FILES,
    JPEG,
    PNG,
    chunked,
    linked_tar,
    record,
    response,
    streamed_zip,
    tar,
    warc,
    with_dictionary,
    zipped,
)

RECORDS = (
    record("http://e.org/1.png", response(PNG)),
    record("http://e.org/page", response(b"<html>", "text/html")),
    record("http://e.org/2.png", response(chunked(JPEG), Transfer_Encoding="chunked")),
    record("http://e.org/3.png", response(COMPRESSORS["gz"](PNG), Content_Encoding="gzip")),
    record("http://e.org/4.png", PNG, "resource", "image/png"),
)
DATASET = {"a.jpg": JPEG, "a.json": b'{"x": 1}', "b.jpg": JPEG, "b.txt": b"text"}
ARCHIVES = {
    **{f"tar.{name}": compress(tar({**FILES, **DATASET})) for name, compress in COMPRESSORS.items()},
    "long names": tar({"n" * 300: PNG, "日本/é.png": PNG}),
    "zip": zipped(FILES),
    "stored": zipped(FILES, 0),
    "streamed": streamed_zip(FILES),
    "warc": warc(*RECORDS),
    "warc.gz": warc(*RECORDS, compressed=True),
    "warc.bz2": COMPRESSORS["bz2"](warc(*RECORDS)),
    "hard links": linked_tar(("a.png", PNG), ("b.png", "a.png"), ("c.jpg", JPEG), ("d.png", "b.png")),
    "dictionary": with_dictionary(*RECORDS),
    "lzma in zip": zipped(FILES, 14),
}
LIMITS = Limits(max_member_bytes=1 << 20, max_members=1000, free_bytes=1 << 22)
ROUNDS = 250


def mangled(data: bytes, chance: random.Random) -> bytes:
    """Applies one to three random changes, most of them near the ends, where they do most damage."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.choice(
            (
                chance.randrange(len(out)),
                chance.randrange(min(len(out), 600)),
                -chance.randrange(1, min(len(out), 200)),
            )
        )
        size = chance.choice((1, 4, 64, 600))
        change = chance.randrange(6)
        if change == 0:
            del out[at % len(out) :]
        elif change == 1:
            out[at] ^= 1 << chance.randrange(8)
        elif change == 2:
            del out[at : at + size]
        elif change == 3:
            begin = chance.randrange(len(out))
            out[at:at] = out[begin : begin + size]
        elif change == 4:
            out[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"9999"))
        else:
            out += chance.randbytes(size)
        if len(out) < 2:
            break
    return bytes(out)


@pytest.mark.parametrize("name", ARCHIVES)
def test_altered_archive_gives_few_unique_names_and_is_read_again_alike(name: str) -> None:
    chance = random.Random(name)
    whole = container_of(ARCHIVES[name][:4096])
    assert whole
    for number in range(ROUNDS):
        data = mangled(ARCHIVES[name], chance)
        # Read as the kind that its first bytes show now, and as the original kind.
        for container in {container_of(data[:4096]) or whole, whole}:
            begun = time.monotonic()
            found = list(members(io.BytesIO(data), container, LIMITS))
            assert time.monotonic() - begun < 5, number
            named = [one.name for one in found if hasattr(one, "name")]
            assert len(named) == len(set(named)), number
            assert len(found) < 300, number
            first = {one.name: one.data for one in found if isinstance(one, Member)}
            if number % 5 == 0:
                again = dict(read_members(io.BytesIO(data), container, list(first), LIMITS))
                assert again == first, number


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_of_a_truncated_archive_are_those_of_the_complete_one(name: str) -> None:
    data = ARCHIVES[name]
    container = container_of(data[:4096])
    assert container
    whole = {one.name: one.data for one in members(io.BytesIO(data), container) if isinstance(one, Member)}
    for size in range(0, len(data), max(len(data) // 150, 1)):
        found = list(members(io.BytesIO(data[:size]), container))
        assert {one.name: one.data for one in found if isinstance(one, Member)}.items() <= whole.items()


def test_random_bytes_raise_nothing() -> None:
    chance = random.Random(1)
    for _ in range(300):
        head = chance.choice([data[: chance.randrange(700)] for data in ARCHIVES.values()])
        data = head + chance.randbytes(chance.randrange(3000))
        if container := container_of(data[:4096]):
            list(members(io.BytesIO(data), container, LIMITS))
