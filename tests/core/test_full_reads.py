"""FullReads: a short read is not the end of a file."""

import errno
import io
from pathlib import Path

import pytest

from beam_dedup.core.full_reads import FullReads
from tests.core.short_reads import BadDisk

DATA = bytes(range(256)) * 10


def opened(tmp_path: Path, most: int = 1 << 40, bad: int = 1 << 40) -> BadDisk:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    stream = BadDisk(path)
    stream.most, stream.bad = most, bad
    return stream


@pytest.mark.parametrize("most", [1, 7, 1000, 1 << 30])
def test_read_returns_all_bytes_asked_for(most: int, tmp_path: Path) -> None:
    with opened(tmp_path, most) as raw:
        stream = FullReads(raw, len(DATA))
        assert stream.read(0) == b""
        assert stream.read(100) == DATA[:100]
        assert stream.read() == DATA[100:]
        assert stream.read(5) == b""
        stream.seek(10)
        assert (stream.read(len(DATA)), stream.tell()) == (DATA[10:], len(DATA))
        assert stream.failure is None


def test_system_error_after_a_short_read_is_raised_and_kept(tmp_path: Path) -> None:
    with opened(tmp_path, most=600, bad=1000) as raw:
        stream = FullReads(raw)
        assert stream.read(1000) == DATA[:1000]
        stream.seek(0)
        with pytest.raises(OSError, match="Input/output error") as raised:
            stream.read(1001)
        assert stream.failure is raised.value
        stream.seek(0)
        with pytest.raises(OSError, match="Input/output error"):
            stream.read()


def test_end_before_the_known_size_is_an_error() -> None:
    for size in (-1, 5, 4):
        with pytest.raises(OSError, match="the file ends after 3 of 4 bytes") as raised:
            FullReads(io.BytesIO(b"abc"), 4).read(size)
        assert raised.value.errno == errno.EIO
    assert FullReads(io.BytesIO(b"abc"), 4).read(3) == b"abc"


def test_file_may_be_longer_than_its_known_size_and_be_read_beyond_its_end() -> None:
    stream = FullReads(io.BytesIO(b"abc"), 2)
    assert (stream.read(9), stream.read(9)) == (b"abc", b"")
    stream.seek(100)
    assert stream.read(1) == b""


def test_memory_grows_with_the_bytes_that_come() -> None:
    """A read of a file allocates as many bytes as it is asked for."""
    asked: list[int] = []

    class Measured(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size or -1)
            return super().read(size)

    assert FullReads(Measured(DATA)).read(1 << 40) == DATA
    assert 0 < min(asked) <= max(asked) <= 1 << 20
