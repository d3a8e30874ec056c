"""Decoding in a process of its own: what archives become, and what a harmful member costs."""

import types
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Verdict
from beam_dedup.core.reading import decoder_process, isolated_decoder
from beam_dedup.core.reading.isolated_decoder import DecodeResult, IsolatedDecoder
from tests.core.archives.made_archives import GIF, JPEG, PNG, record, response, tar, warc, zipped
from tests.core.reading.bad_decoder import CRASH, CRASH_ONCE, CRASH_WHEN_READ, HANG, MARK

CBOR = b'\xd9\xd9\xf7\x79\x01\x02{"url":"http://a.org/b.png"}'


@pytest.fixture(scope="module")
def good() -> Iterator[IsolatedDecoder]:
    made = IsolatedDecoder(Recipe())
    yield made
    made.close()


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IsolatedDecoder]:
    """One that some pictures end, and that answers three at a time."""
    fake = types.SimpleNamespace(__name__="tests.core.reading.bad_decoder", READY=decoder_process.READY)
    monkeypatch.setattr(isolated_decoder, "decoder", fake)
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    made = IsolatedDecoder(Recipe(), Limits(decode_seconds=3))
    yield made
    made.close()


def fingerprints(answer: DecodeResult) -> list[Fingerprint]:
    return list(tables.fingerprints_of(blocks.load(answer.fingerprints, blocks.FINGERPRINTS)))


def rejections(answer: DecodeResult) -> list[Verdict]:
    return list(tables.verdicts_of(blocks.load(answer.rejections, blocks.VERDICTS)))


def found(answer: DecodeResult) -> dict[str, Reason | None]:
    """What became of each image, by the last part of its URI; each must be there once."""
    pairs: list[tuple[str, Reason | None]] = [(one.ref.uri, None) for one in fingerprints(answer)]
    pairs += [(one.ref.uri, one.reason) for one in rejections(answer)]
    assert len(dict(pairs)) == len(pairs)
    return {uri.rpartition("/")[2]: reason for uri, reason in sorted(pairs)}


def written(folder: Path, files: Mapping[str, bytes]) -> list[ImageRef]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [ImageRef(f"{folder}/{name}", name) for name in files]


class TestWhatAReferenceLeadsTo:
    def test_a_file_to_itself_and_an_archive_to_its_members(
        self, good: IsolatedDecoder, tmp_path: Path
    ) -> None:
        files = {"a.png": PNG, "b.jpg": zipped({"x.png": PNG, "y": b"no image", "z.jpg": b""}), "c!.gif": GIF}
        answer = good.read(written(tmp_path, files))
        assert found(answer) == {
            "a.png": None,
            "b.jpg!x.png": None,
            "b.jpg!y": Reason.NOT_AN_IMAGE,
            "b.jpg!z.jpg": Reason.EMPTY,
            "c%21.gif": None,
        }
        names = {one.ref.uri.rpartition("/")[2]: one.ref.name for one in fingerprints(answer)}
        assert names == {"a.png": "a.png", "b.jpg!x.png": "b.jpg/x.png", "c%21.gif": "c!.gif"}
        by_uri = {one.ref.uri: one for one in fingerprints(answer)}
        assert by_uri[f"{tmp_path}/a.png"].codes == by_uri[f"{tmp_path}/b.jpg!x.png"].codes
        assert answer.bytes_read == 2 * len(PNG) + len(GIF)

    def test_metadata_of_archive_and_member(self, good: IsolatedDecoder, tmp_path: Path) -> None:
        [reference] = written(tmp_path, {"a.warc": warc(record("http://a.org/b.png", response(PNG)))})
        of_archive = ImageRef(reference.uri, reference.name, '{"url": "http://dump", "source": "mine"}')
        [one] = tables.fingerprints_of(blocks.load(good.read([of_archive]).fingerprints, blocks.FINGERPRINTS))
        assert one.ref.uri == f"{reference.uri}!a.org/b.png"
        assert '"url": "http://a.org/b.png"' in one.ref.metadata
        assert '"source": "mine"' in one.ref.metadata

    def test_pages_are_counted_and_known_members_known(self, good: IsolatedDecoder, tmp_path: Path) -> None:
        page = record("http://a.org/", response(b"<html>", "text/html"))
        image = record("http://a.org/b.png", response(PNG))
        bad_image = record("http://a.org/c.png", response(b"no image"))
        [reference] = written(tmp_path, {"a.warc": warc(page, image, page, bad_image)})
        answer = good.read([reference])
        assert found(answer) == {"b.png": None, "c.png": Reason.NOT_AN_IMAGE}
        assert answer.skipped == 2
        known = good.read([ImageRef(reference.uri, reference.name, "", known=True)])
        assert [one.ref.known for one in fingerprints(known)] == [True]
        assert (known.rejections, known.known_rejected, known.skipped) == ([], 1, 0)

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(zipped({}), {}, id="empty archive"),
            pytest.param(zipped({"a.zip": zipped({"b.png": PNG})}), {"x!a.zip": Reason.NESTED_ARCHIVE}, id="zip in zip"),
            pytest.param(tar({"a.png": PNG})[: 512 + -(-len(PNG) // 512) * 512], {"x!a.png": None, "x": Reason.DAMAGED}, id="cut short"),
            pytest.param(CBOR, {"x": Reason.LOSSY_DUMP}, id="CBOR"),
        ],
    )  # fmt: skip
    def test_odd_ones(
        self, good: IsolatedDecoder, tmp_path: Path, data: bytes, expected: dict[str, Reason | None]
    ) -> None:
        assert found(good.read(written(tmp_path, {"x": data}))) == expected

    def test_the_bytes_may_lie_elsewhere(self, good: IsolatedDecoder, tmp_path: Path) -> None:
        written(tmp_path, {"copy": zipped({"a.png": PNG})})
        answer = good.read([ImageRef("gs://bucket/b.zip", "b.zip")], str(tmp_path / "copy"))
        assert [one.ref.uri for one in fingerprints(answer)] == ["gs://bucket/b.zip!a.png"]


class TestHarm:
    @pytest.mark.parametrize(
        ("harm", "reason"), [(CRASH, Reason.DECODER_CRASHED), (HANG, Reason.TIMEOUT), (CRASH_ONCE, None)]
    )
    @pytest.mark.parametrize("place", [0, 4, 8])
    def test_costs_one_member(
        self, bad: IsolatedDecoder, tmp_path: Path, harm: bytes, reason: Reason | None, place: int
    ) -> None:
        """Also where some of the archive is answered before, and some is not."""
        members = {f"{number}.png": PNG + (harm if number == place else b"") for number in range(9)}
        answer = bad.read(written(tmp_path, {"a.zip": zipped(members), "b.png": PNG}))
        expected: dict[str, Reason | None] = {f"a.zip!{name}": None for name in members}
        assert found(answer) == {**expected, f"a.zip!{place}.png": reason, "b.png": None}

    def test_of_several_kinds_in_files_and_archives(self, bad: IsolatedDecoder, tmp_path: Path) -> None:
        files = {
            "a.png": PNG + CRASH,
            "b.tar": tar({"1.png": PNG, "2.png": PNG + CRASH, "3.png": PNG + HANG, "4.jpg": JPEG}),
            "c.png": PNG,
            "d.zip": zipped({"1.png": PNG, CRASH_WHEN_READ: PNG, "2.png": PNG}),
            "e.png": PNG + HANG,
            "f.zip": zipped({"1.png": PNG + CRASH}),
        }
        answer = bad.read(written(tmp_path, files))
        assert found(answer) == {
            "a.png": Reason.DECODER_CRASHED,
            "b.tar!1.png": None,
            "b.tar!2.png": Reason.DECODER_CRASHED,
            "b.tar!3.png": Reason.TIMEOUT,
            "b.tar!4.jpg": None,
            "c.png": None,
            "d.zip": Reason.DECODER_CRASHED,
            "d.zip!1.png": None,
            "e.png": Reason.TIMEOUT,
            "f.zip!1.png": Reason.DECODER_CRASHED,
        }

    def test_a_lost_image_is_a_bug(self, bad: IsolatedDecoder, tmp_path: Path) -> None:
        references = written(tmp_path, {"a.zip": zipped({"b.png": PNG, "lost.png": PNG})})
        with pytest.raises(RuntimeError, match="not all images were answered"):
            bad.read(references)
