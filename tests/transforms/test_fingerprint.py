"""`FingerprintImages` on real files: good, odd, damaged, gone, and no files at all."""

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_dedup.core import limits
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.local import open_local
from beam_dedup.core.model import Fingerprint, Flag, ImageRef, Kind, Reason, Verdict
from tests.transforms import packed
from tests.transforms.files import SVG, encoded, ref, write
from tests.transforms.pipelines import PROCESSES, Ran, run
from transforms import FingerprintImages, metrics
from transforms.progress import READ, Tally


class Done(NamedTuple):
    fingerprints: dict[str, Fingerprint]  # by URI
    rejections: dict[str, Verdict]
    ran: Ran


def fingerprint(references: list[ImageRef], transform: FingerprintImages, *flags: str) -> Done:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        done = packed.references(pipeline, references) | transform
        return {"fingerprints": done.fingerprints, "rejections": done.rejections}

    ran = run(build, *flags)
    found = packed.fingerprints_in(ran.values["fingerprints"])
    rejected = packed.verdicts_in(ran.values["rejections"])
    uris = [one.ref.uri for one in [*found, *rejected]]
    assert sorted(uris) == sorted(reference.uri for reference in references), (
        "each is in exactly one of the two"
    )
    return Done({one.ref.uri: one for one in found}, {one.ref.uri: one for one in rejected}, ran)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(path.parent, os.O_RDONLY)  # the path of a socket must be short
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(limits.MAX_BYTES + 1)


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


REJECTED: dict[str, tuple[Callable[[Path], object], Reason, str]] = {
    "empty": (lambda path: path.write_bytes(b""), Reason.EMPTY, ""),
    "text.jpg": (lambda path: path.write_bytes(b"not a picture"), Reason.NOT_AN_IMAGE, "not a picture"),
    "one byte": (lambda path: path.write_bytes(b"\xff"), Reason.NOT_AN_IMAGE, r"\xff"),
    "gone.png": (lambda _: None, Reason.NOT_FOUND, "No such file"),
    "broken link": (_link_to("nowhere"), Reason.NOT_FOUND, "No such file"),
    "link to itself": (_link_to("link to itself"), Reason.UNREADABLE, "symbolic links"),
    "link to a device": (_link_to("/dev/null"), Reason.NOT_A_FILE, ""),
    "pipe": (_fifo, Reason.NOT_A_FILE, ""),
    "folder": (lambda path: path.mkdir(), Reason.UNREADABLE, "folder"),
    "x" * 300: (lambda _: None, Reason.UNREADABLE, "too long"),
    "large": (_sparse, Reason.TOO_LARGE, "bytes"),
}


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """All of `REJECTED` and a good picture, fingerprinted in one run."""
    folder = tmp_path_factory.mktemp("rejected")
    for name, (make, _, _) in REJECTED.items():
        make(folder / name)
    write(folder / "good.png", encoded(1))
    references = [ref(folder / name) for name in [*REJECTED, "good.png"]]
    return folder, fingerprint(references, FingerprintImages())


@pytest.mark.parametrize("name", [pytest.param(name, id=name[:20]) for name in REJECTED])
def test_what_is_no_image_is_rejected_with_a_reason(rejected: tuple[Path, Done], name: str) -> None:
    folder, done = rejected
    _, reason, detail = REJECTED[name]
    rejection = done.rejections[str(folder / name)]
    assert rejection.ref == ref(folder / name)
    assert rejection.reason == reason
    assert detail in rejection.detail
    assert str(folder / "good.png") in done.fingerprints, "the others go on"


def test_a_socket_is_not_a_file(tmp_path: Path) -> None:
    _socket(tmp_path / "socket")
    done = fingerprint([ref(tmp_path / "socket")], FingerprintImages())
    assert done.rejections[str(tmp_path / "socket")].reason == Reason.NOT_A_FILE


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="open files can't be counted here")
def test_what_is_rejected_is_closed(rejected: tuple[Path, Done]) -> None:
    folder, _ = rejected
    before = len(os.listdir("/proc/self/fd"))
    for name in REJECTED:
        for _ in range(3):
            with contextlib.suppress(ImageError), open_local(str(folder / name)):
                pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="there is no file here that can't be read")
def test_a_file_that_fails_while_it_is_read_is_unreadable() -> None:
    """/proc/self/mem opens, says it is a regular file, and fails at its first byte."""
    done = fingerprint([ref("/proc/self/mem")], FingerprintImages())
    assert done.rejections["/proc/self/mem"].reason == Reason.UNREADABLE
    assert done.rejections["/proc/self/mem"].detail


def test_what_the_system_refuses_is_unreadable(refused: Path) -> None:
    done = fingerprint([ref(refused), ref(refused / "file")], FingerprintImages())
    assert [one.reason for one in done.rejections.values()] == [Reason.UNREADABLE] * 2
    assert "denied" in done.rejections[str(refused / "file")].detail


def test_what_cannot_be_decoded_takes_part_by_digest(tmp_path: Path) -> None:
    damaged = {
        "drawing": SVG,
        "only a header.jpg": b"\xff\xd8\xff\xe0 and no more",
        "cut.jpg": encoded(1, "JPEG")[:1500],
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    }
    references = [ref(write(tmp_path / name, data)) for name, data in damaged.items()]
    done = fingerprint(references, FingerprintImages())
    assert not done.rejections
    for name, data in damaged.items():
        found = done.fingerprints[str(tmp_path / name)]
        assert found.digest == hashlib.sha256(data).digest()
        assert (found.codes, found.algorithm, found.flags) == ((), "", (Flag.UNDECODABLE,))
        assert (found.size_bytes, found.width, found.height) == (len(data), 0, 0)
        assert found.detail


def test_pictures_have_codes_and_what_a_record_tells(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    files = {
        "full": (encoded(1), "PNG", (96, 64), Kind.FULL, ()),
        "wrong name.gif": (encoded(2, "JPEG", exif=exif), "JPEG", (64, 96), Kind.FULL, ()),
        "tiny": (encoded(3, size=(40, 20)), "PNG", (40, 20), Kind.TINY, (Flag.TINY,)),
        "-rf \udcff\n": (encoded(4, "WEBP"), "WEBP", (96, 64), Kind.FULL, ()),
    }
    references = [
        ImageRef(str(write(tmp_path / name, data)), f"as/{name}", '{"url": "x"}')
        for name, (data, *_) in files.items()
    ]
    os.utime(tmp_path / "full", ns=(1, 1_700_000_000_123_456_789))
    done = fingerprint(references, FingerprintImages())
    for reference, (data, form, (width, height), kind, flags) in zip(references, files.values(), strict=True):
        found = done.fingerprints[reference.uri]
        assert found.ref == reference
        assert found.digest == hashlib.sha256(data).digest()
        assert (found.format, found.width, found.height) == (form, width, height)
        assert (found.algorithm, found.flags, found.size_bytes) == (Recipe().name, flags, len(data))
        assert [code.kind for code in found.codes] == [kind]
        assert found.detail == ""
    assert done.fingerprints[str(tmp_path / "full")].modified_ms == 1_700_000_000_123


def test_exact_mode_decodes_nothing(tmp_path: Path) -> None:
    files = {"picture": encoded(1), "damaged": b"GIF89a...", "text": b"text", "empty": b""}
    done = fingerprint(
        [ref(write(tmp_path / name, data)) for name, data in files.items()], FingerprintImages(None)
    )
    assert set(done.fingerprints) == {str(tmp_path / "picture"), str(tmp_path / "damaged")}
    for found in done.fingerprints.values():
        assert (found.codes, found.flags, found.width, found.detail) == ((), (), 0, "")
    assert done.fingerprints[str(tmp_path / "damaged")].format == "GIF"


@pytest.mark.parametrize(
    ("processes", "flags"), [(1, ()), (3, ()), pytest.param(1, PROCESSES, marks=pytest.mark.processes)]
)
def test_more_than_one_batch_and_what_is_told_of_it(
    tmp_path: Path, processes: int, flags: tuple[str, ...]
) -> None:
    """Every file once, whatever the batches; bytes and files are counted."""
    data = encoded(1)
    count = 9 * packed.SOME + 3
    references = [ref(write(tmp_path / f"in/{i}", data)) for i in range(count)] + [ref(tmp_path / "gone")]
    (tmp_path / "tally").mkdir()
    tally = Tally(str(tmp_path / "tally"))
    done = fingerprint(references, FingerprintImages(processes=processes, tally=tally), *flags)
    assert len(done.fingerprints) == count
    assert done.ran.counters == {metrics.BYTES_READ: count * len(data)}
    assert tally.total(READ) == count + 1


def test_nothing_is_written_and_no_time_changed(tmp_path: Path) -> None:
    file = write(tmp_path / "in/picture", encoded(1))
    before = file.stat()
    fingerprint([ref(file)], FingerprintImages())
    assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert os.listdir(tmp_path / "in") == ["picture"]


def test_types_are_declared() -> None:
    references = packed.references(beam.Pipeline(options=PipelineOptions([])), [ImageRef("a", "a")])
    done = references | FingerprintImages()
    assert done.fingerprints.element_type is bytes
    assert done.rejections.element_type is bytes


def test_each_list_stays_in_its_window(tmp_path: Path) -> None:
    """Though what comes of it is put out later than it comes, with an element of another window or none."""
    for name in "abcdef":
        write(tmp_path / name, encoded(ord(name)))
    timed = [
        (60 * number, [ref(tmp_path / name), ref(tmp_path / "gone")]) for number, name in enumerate("abcdef")
    ]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        lists = pipeline | beam.Create(timed) | beam.MapTuple(stamp).with_output_types(list[ImageRef])
        done = lists | beam.WindowInto(FixedWindows(60)) | FingerprintImages(processes=2)
        return {"fingerprints": done.fingerprints, "rejections": done.rejections}

    ran = run(build)
    found = zip(ran.windows["fingerprints"], ran.values["fingerprints"], strict=True)
    names = {
        window: [Path(one.ref.uri).name for one in packed.fingerprints_in([block])] for window, block in found
    }
    assert names == {60 * number: [name] for number, name in enumerate("abcdef")}
    assert sorted(ran.windows["rejections"]) == [60 * number for number in range(6)]


def stamp(seconds: int, images: list[ImageRef]) -> Any:
    return TimestampedValue(images, seconds)


def test_known_images_that_are_rejected_are_counted_only(tmp_path: Path) -> None:
    known = ImageRef(str(tmp_path / "gone"), "gone", known=True)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        done = packed.references(pipeline, [known, ref(tmp_path / "gone too")]) | FingerprintImages()
        return {"fingerprints": done.fingerprints, "rejections": done.rejections}

    ran = run(build)
    assert [verdict.ref.name for verdict in packed.verdicts_in(ran.values["rejections"])] == ["gone too"]
    assert ran.counters == {metrics.BYTES_READ: 0, metrics.KNOWN_REJECTED: 1}
