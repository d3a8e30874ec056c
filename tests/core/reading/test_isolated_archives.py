"""IsolatedDecoder with archives: the images in them, and the effect of harmful members."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Verdict
from beam_dedup.core.reading import isolated_decoder
from beam_dedup.core.reading.isolated_decoder import DecodeResult, IsolatedDecoder
from tests.core.archives.made_archives import GIF, JPEG, PNG, record, response, tar, warc, zipped
from tests.core.reading import bad_decoder
from tests.core.reading.bad_decoder import CRASH, CRASH_ONCE, CRASH_WHEN_READ, HANG, LOST, MARK

CBOR = b'\xd9\xd9\xf7\x79\x01\x02{"url":"http://a.org/b.png"}'


@pytest.fixture(scope="module")
def good() -> Iterator[IsolatedDecoder]:
    made = IsolatedDecoder(Recipe())
    yield made
    made.close()


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IsolatedDecoder]:
    """A decoder that some images crash, and that sends a reply after every three images."""
    monkeypatch.setenv(MARK, str(tmp_path / "mark"))
    passed = (*isolated_decoder.PASSED_VARIABLES, MARK)
    monkeypatch.setattr(isolated_decoder, "PASSED_VARIABLES", passed)
    made = IsolatedDecoder(Recipe(), Limits(decode_seconds=3), bad_decoder.__name__)
    yield made
    made.close()


def fingerprints(result: DecodeResult) -> list[Fingerprint]:
    return list(tables.fingerprints_of(blocks.load(result.fingerprints, blocks.FINGERPRINTS)))


def rejections(result: DecodeResult) -> list[Verdict]:
    return list(tables.verdicts_of(blocks.load(result.rejections, blocks.VERDICTS)))


def found(result: DecodeResult) -> dict[str, Reason | None]:
    """Returns the reject reason of each image, by the last part of its URI; None for a fingerprint.

    Fails if a URI occurs twice.
    """
    pairs: list[tuple[str, Reason | None]] = [(one.ref.uri, None) for one in fingerprints(result)]
    pairs += [(one.ref.uri, one.reason) for one in rejections(result)]
    assert len(dict(pairs)) == len(pairs)
    return {uri.rpartition("/")[2]: reason for uri, reason in sorted(pairs)}


def written(folder: Path, files: Mapping[str, bytes]) -> list[ImageRef]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [ImageRef(f"{folder}/{name}", name) for name in files]


class TestImagesOfAReference:
    def test_file_is_one_image_and_archive_is_its_members(
        self, good: IsolatedDecoder, tmp_path: Path
    ) -> None:
        files = {"a.png": PNG, "b.jpg": zipped({"x.png": PNG, "y": b"no image", "z.jpg": b""}), "c!.gif": GIF}
        result = good.read(written(tmp_path, files))
        assert found(result) == {
            "a.png": None,
            "b.jpg!x.png": None,
            "b.jpg!y": Reason.NOT_AN_IMAGE,
            "b.jpg!z.jpg": Reason.EMPTY,
            "c%21.gif": None,
        }
        names = {one.ref.uri.rpartition("/")[2]: one.ref.name for one in fingerprints(result)}
        assert names == {"a.png": "a.png", "b.jpg!x.png": "b.jpg/x.png", "c%21.gif": "c!.gif"}
        by_uri = {one.ref.uri: one for one in fingerprints(result)}
        assert by_uri[f"{tmp_path}/a.png"].codes == by_uri[f"{tmp_path}/b.jpg!x.png"].codes
        assert result.bytes_read == 2 * len(PNG) + len(GIF)

    def test_metadata_of_archive_and_member_are_merged(self, good: IsolatedDecoder, tmp_path: Path) -> None:
        [reference] = written(tmp_path, {"a.warc": warc(record("http://a.org/b.png", response(PNG)))})
        of_archive = ImageRef(reference.uri, reference.name, '{"url": "http://dump", "source": "mine"}')
        [one] = tables.fingerprints_of(blocks.load(good.read([of_archive]).fingerprints, blocks.FINGERPRINTS))
        assert one.ref.uri == f"{reference.uri}!a.org/b.png"
        assert '"url": "http://a.org/b.png"' in one.ref.metadata
        assert '"source": "mine"' in one.ref.metadata

    def test_pages_are_counted_and_members_of_known_archives_are_known(
        self, good: IsolatedDecoder, tmp_path: Path
    ) -> None:
        page = record("http://a.org/", response(b"<html>", "text/html"))
        image = record("http://a.org/b.png", response(PNG))
        bad_image = record("http://a.org/c.png", response(b"no image"))
        [reference] = written(tmp_path, {"a.warc": warc(page, image, page, bad_image)})
        result = good.read([reference])
        assert found(result) == {"b.png": None, "c.png": Reason.NOT_AN_IMAGE}
        assert result.skipped == 2
        known = good.read([ImageRef(reference.uri, reference.name, "", known=True)])
        assert [one.ref.known for one in fingerprints(known)] == [True]
        assert (known.rejections, known.known_rejected, known.skipped) == ([], 1, 0)

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(zipped({}), {}, id="empty archive"),
            pytest.param(zipped({"a.zip": zipped({"b.png": PNG})}), {"x!a.zip": Reason.NESTED_ARCHIVE}, id="zip in zip"),
            pytest.param(tar({"a.png": PNG})[: 512 + -(-len(PNG) // 512) * 512], {"x!a.png": None, "x": Reason.DAMAGED}, id="truncated"),
            pytest.param(CBOR, {"x": Reason.LOSSY_DUMP}, id="CBOR"),
        ],
    )  # fmt: skip
    def test_unusual_archives(
        self, good: IsolatedDecoder, tmp_path: Path, data: bytes, expected: dict[str, Reason | None]
    ) -> None:
        assert found(good.read(written(tmp_path, {"x": data}))) == expected

    def test_uri_may_differ_from_path_of_bytes(self, good: IsolatedDecoder, tmp_path: Path) -> None:
        written(tmp_path, {"copy": zipped({"a.png": PNG})})
        result = good.read([ImageRef("gs://bucket/b.zip", "b.zip")], [str(tmp_path / "copy")])
        assert [one.ref.uri for one in fingerprints(result)] == ["gs://bucket/b.zip!a.png"]


class TestHarmfulMembers:
    @pytest.mark.parametrize(
        ("harm", "reason"), [(CRASH, Reason.DECODER_CRASHED), (HANG, Reason.TIMEOUT), (CRASH_ONCE, None)]
    )
    @pytest.mark.parametrize("position", [0, 4, 8])
    def test_harmful_member_is_the_only_one_rejected(
        self, bad: IsolatedDecoder, tmp_path: Path, harm: bytes, reason: Reason | None, position: int
    ) -> None:
        """Also if some members of the archive were answered before it, and others were not."""
        members = {f"{number}.png": PNG + (harm if number == position else b"") for number in range(9)}
        result = bad.read(written(tmp_path, {"a.zip": zipped(members), "b.png": PNG}))
        expected: dict[str, Reason | None] = {f"a.zip!{name}": None for name in members}
        assert found(result) == {**expected, f"a.zip!{position}.png": reason, "b.png": None}

    def test_several_kinds_of_harm_in_files_and_archives(self, bad: IsolatedDecoder, tmp_path: Path) -> None:
        files = {
            "a.png": PNG + CRASH,
            "b.tar": tar({"1.png": PNG, "2.png": PNG + CRASH, "3.png": PNG + HANG, "4.jpg": JPEG}),
            "c.png": PNG,
            "d.zip": zipped({"1.png": PNG, CRASH_WHEN_READ: PNG, "2.png": PNG}),
            "e.png": PNG + HANG,
            "f.zip": zipped({"1.png": PNG + CRASH}),
        }
        result = bad.read(written(tmp_path, files))
        assert found(result) == {
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

    def test_image_missing_in_reply_is_an_error(self, bad: IsolatedDecoder, tmp_path: Path) -> None:
        references = written(tmp_path, {"a.zip": zipped({"b.png": PNG, LOST: PNG})})
        with pytest.raises(RuntimeError, match=r"did not answer for all images \(references: 1\)"):
            bad.read(references)
