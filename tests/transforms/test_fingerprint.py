"""Tests `FingerprintImages` on files that are good, odd, damaged, missing or no files, and on files that crash the decoder."""

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import CodeKind, Fingerprint, Flag, ImageRef, Reason, Status, Verdict
from beam_dedup.core.reading import decoder_process
from beam_dedup.core.reading.local_files import open_local
from tests.transforms import image_blocks
from tests.transforms.files import SVG, encoded, ref, write
from tests.transforms.pipelines import PROCESSES, ROOT, THREADS, Ran, run
from transforms import BatchReferences, FingerprintImages, UnbatchVerdicts, metrics
from transforms.read_settings import ReadSettings
from transforms.tally import READ, Tally


class Done(NamedTuple):
    fingerprints: dict[str, Fingerprint]  # by URI
    rejections: dict[str, Verdict]
    ran: Ran


def read(images: list[ImageRef], transform: FingerprintImages, *flags: str) -> Done:
    """Fingerprints images; asserts that each image that is not known has exactly one fingerprint or rejection."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        done = image_blocks.references(pipeline, images) | transform
        return {
            "fingerprints": done.fingerprints | beam.FlatMap(image_blocks.fingerprints_in),
            "rejections": done.rejections | UnbatchVerdicts(),
        }

    ran = run(build, *flags)
    found, rejected = ran.values["fingerprints"], ran.values["rejections"]
    new = {reference.uri for reference in images if not reference.known}
    uris = [one.ref.uri for one in [*found, *rejected] if one.ref.uri in new]
    assert sorted(uris) == sorted(new), "each is in exactly one of the two"
    assert {one.status for one in rejected} <= {Status.REJECTED}
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
        file.truncate(Limits().max_bytes + 1)


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
    "folder": (lambda path: path.mkdir(), Reason.UNREADABLE, "directory could not be listed"),
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
    images = [ref(folder / name) for name in [*REJECTED, "good.png"]]
    return folder, read(images, FingerprintImages())


@pytest.mark.parametrize("name", [pytest.param(name, id=name[:20]) for name in REJECTED])
def test_a_file_that_is_no_image_is_rejected_with_a_reason(rejected: tuple[Path, Done], name: str) -> None:
    folder, done = rejected
    _, reason, detail = REJECTED[name]
    rejection = done.rejections[str(folder / name)]
    assert rejection.ref == ref(folder / name)
    assert rejection.reason == reason
    assert detail in rejection.detail
    assert str(folder / "good.png") in done.fingerprints, "the other images are read"


def test_a_socket_is_not_a_file(tmp_path: Path) -> None:
    _socket(tmp_path / "socket")
    done = read([ref(tmp_path / "socket")], FingerprintImages())
    assert done.rejections[str(tmp_path / "socket")].reason == Reason.NOT_A_FILE


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to count open files")
def test_rejected_files_are_closed(rejected: tuple[Path, Done]) -> None:
    folder, _ = rejected
    before = len(os.listdir("/proc/self/fd"))
    for name in REJECTED:
        for _ in range(3):
            with contextlib.suppress(ImageError), open_local(str(folder / name)):
                pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(
    not os.path.exists("/proc/self/mem"), reason="needs /proc/self/mem, a file that fails when it is read"
)
def test_a_file_that_fails_while_it_is_read_is_unreadable() -> None:
    """/proc/self/mem can be opened, is a regular file, and fails at its first byte."""
    done = read([ref("/proc/self/mem")], FingerprintImages())
    assert done.rejections["/proc/self/mem"].reason == Reason.UNREADABLE
    assert done.rejections["/proc/self/mem"].detail


def test_a_file_without_permission_is_unreadable(refused: Path) -> None:
    done = read([ref(refused), ref(refused / "file")], FingerprintImages())
    assert [one.reason for one in done.rejections.values()] == [Reason.UNREADABLE] * 2
    assert "denied" in done.rejections[str(refused / "file")].detail


def test_an_undecodable_picture_has_a_digest_and_no_codes(tmp_path: Path) -> None:
    damaged = {
        "drawing": SVG,
        "only a header.jpg": b"\xff\xd8\xff\xe0 and no more",
        "cut.jpg": encoded(1, "JPEG")[:1500],
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    }
    images = [ref(write(tmp_path / name, data)) for name, data in damaged.items()]
    done = read(images, FingerprintImages())
    assert not done.rejections
    for name, data in damaged.items():
        found = done.fingerprints[str(tmp_path / name)]
        assert found.digest == hashlib.sha256(data).digest()
        assert (found.codes, found.algorithm, found.flags[0]) == ((), "", Flag.UNDECODABLE)
        assert (Flag.TRUNCATED in found.flags) == (name == "cut.jpg")
        assert (found.size_bytes, found.width, found.height) == (len(data), 0, 0)
        assert found.detail


def test_pictures_have_codes_and_the_fields_of_a_record(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    files = {
        "full": (encoded(1), "PNG", (96, 64), CodeKind.FULL, ()),
        "wrong name.gif": (encoded(2, "JPEG", exif=exif), "JPEG", (64, 96), CodeKind.FULL, ()),
        "tiny": (encoded(3, size=(40, 20)), "PNG", (40, 20), CodeKind.TINY, (Flag.TINY,)),
        "-rf \udcff\n": (encoded(4, "WEBP"), "WEBP", (96, 64), CodeKind.FULL, ()),
    }
    images = [
        ImageRef(str(write(tmp_path / name, data)), f"as/{name}", '{"url": "x"}')
        for name, (data, *_) in files.items()
    ]
    os.utime(tmp_path / "full", ns=(1, 1_700_000_000_123_456_789))
    done = read(images, FingerprintImages())
    for reference, (data, form, (width, height), kind, flags) in zip(images, files.values(), strict=True):
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
    done = read(
        [ref(write(tmp_path / name, data)) for name, data in files.items()],
        FingerprintImages(settings=ReadSettings()),
    )
    assert set(done.fingerprints) == {str(tmp_path / "picture"), str(tmp_path / "damaged")}
    for found in done.fingerprints.values():
        assert (found.codes, found.flags, found.width, found.detail) == ((), (), 0, "")
    assert done.fingerprints[str(tmp_path / "damaged")].format == "GIF"


@pytest.mark.parametrize(
    ("processes", "flags"),
    [(1, ()), (3, ()), (2, THREADS), pytest.param(1, PROCESSES, marks=pytest.mark.processes)],
)
def test_every_file_is_read_and_counted_once(tmp_path: Path, processes: int, flags: tuple[str, ...]) -> None:
    """However the files are batched; bytes and files are counted, those of known images too."""
    data = encoded(1)
    count = 5 * image_blocks.IMAGES_PER_BLOCK + 3
    images = [ref(write(tmp_path / f"in/{i}", data)) for i in range(count)] + [ref(tmp_path / "gone")]
    known = [ImageRef(str(write(tmp_path / "known", data)), "known", known=True)]
    known += [ImageRef(str(tmp_path / name), name, known=True) for name in ("gone as well", "x" * 300)]
    (tmp_path / "tally").mkdir()
    tally = Tally(str(tmp_path / "tally"))
    done = read(
        [*images, *known],
        FingerprintImages(settings=ReadSettings(recipe=Recipe(), decoder_processes=processes, tally=tally)),
        *flags,
    )
    assert len(done.fingerprints) == count + 1
    assert done.fingerprints[known[0].uri].ref == known[0]
    assert list(done.rejections) == [str(tmp_path / "gone")], "known images get no verdict"
    assert done.ran.counters == {
        metrics.BYTES_READ: (count + 1) * len(data),
        metrics.REFERENCES_READ: count + 4,
        metrics.IMAGES_FOUND: count + 1,
        metrics.KNOWN_REJECTED: 2,
    }
    assert tally.total(READ) == count + 4


@pytest.fixture(scope="module")
def many(samples: Path) -> list[ImageRef]:
    return [ref(path) for path in sorted(samples.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("recipe", [None, Recipe(), Recipe(views="crops", turns=True)])
def test_results_do_not_depend_on_the_number_of_decoder_processes(
    many: list[ImageRef], recipe: Recipe | None
) -> None:
    one, three = (
        read(many, FingerprintImages(settings=ReadSettings(recipe=recipe, decoder_processes=processes)))
        for processes in (1, 3)
    )
    assert one.fingerprints == three.fingerprints
    assert one.rejections == three.rejections
    assert one.ran.counters == three.ran.counters


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("in_one_list", [False, True])
def test_outputs_stay_in_the_window_of_their_image(tmp_path: Path, processes: int, in_one_list: bool) -> None:
    """Although an output is emitted with a later element of another window, or at the end of the bundle."""
    write(tmp_path / "good", encoded(1))
    images = [ImageRef(str(tmp_path / name), f"{i}") for i, name in enumerate(("good", "gone") * 10)]
    timed = [(60 * (i // 3 % 2) + i, image) for i, image in enumerate(images)]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        stamped = pipeline | beam.Create(timed, reshuffle=False) | beam.MapTuple(stamp)
        images = stamped | beam.WindowInto(FixedWindows(60)) | BatchReferences(10 if in_one_list else 1)
        done = images | FingerprintImages(settings=ReadSettings(recipe=Recipe(), decoder_processes=processes))
        return {
            "fingerprints": done.fingerprints | beam.FlatMap(image_blocks.fingerprints_in),
            "rejections": done.rejections | UnbatchVerdicts(),
        }

    ran = run(build)
    found = [
        (reference.ref.name, window)
        for name in ("fingerprints", "rejections")
        for window, reference in zip(ran.windows[name], ran.values[name], strict=True)
    ]
    assert sorted(found) == sorted((reference.name, seconds // 60 * 60) for seconds, reference in timed)
    assert len(ran.values["rejections"]) == 10


def stamp(seconds: int, image: ImageRef) -> Any:
    return TimestampedValue(image, seconds)


@pytest.fixture
def harmful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a directory. Opening `crash` in it aborts a decoder process; opening `sleep` in it takes a minute."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os, sys, time\n"
        "real = os.stat\n"
        "def stat(path, *rest, **more):\n"
        f"    if path == {str(tmp_path / 'crash')!r}:\n"
        "        os.abort()\n"
        f"    if path == {str(tmp_path / 'sleep')!r}:\n"
        "        time.sleep(60)\n"
        "    return real(path, *rest, **more)\n"
        f"if {decoder_process.__name__!r} in sys.orig_argv:\n"
        "    os.stat = stat\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "site"), str(ROOT))))
    for name in ("crash", "sleep"):
        write(tmp_path / name, encoded(1))
    return tmp_path


@pytest.mark.parametrize("processes", [1, 2])
def test_only_the_image_that_crashes_the_decoder_is_rejected(harmful: Path, processes: int) -> None:
    good = [ref(write(harmful / f"good {i}", encoded(i))) for i in range(2 * image_blocks.IMAGES_PER_BLOCK)]
    bad = [ref(harmful / name) for name in ("crash", "sleep")]
    known = [ImageRef(f"{harmful}/{name}", name, known=True) for name in ("crash", "sleep")]
    images = [*good[:3], bad[0], *good[3:9], known[1], *good[9:11], bad[1], *good[11:]]
    done = read(
        images,
        FingerprintImages(
            settings=ReadSettings(decoder_processes=processes, limits=Limits(decode_seconds=5))
        ),
    )
    assert {Path(uri).name: verdict.reason for uri, verdict in done.rejections.items()} == {
        "crash": Reason.DECODER_CRASHED,
        "sleep": Reason.TIMEOUT,
    }
    assert all(verdict.detail for verdict in done.rejections.values())
    assert sorted(done.fingerprints) == sorted(reference.uri for reference in good)
    assert done.ran.counters[metrics.KNOWN_REJECTED] == 1


@pytest.fixture(scope="module", autouse=True)
def _earlier_decoders() -> Iterator[None]:
    """Notes the decoder processes that earlier tests have left in this process; they end with it."""
    _before.update(_children())
    yield
    _before.clear()


_before: set[psutil.Process] = set()


def decoders() -> list[psutil.Process]:
    """Returns the decoder processes that were started after the first test of this module began."""
    return [child for child in _children() if child not in _before]


def _children() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return list(filter(_is_decoder, children))


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return decoder_process.__name__ in process.cmdline()
    except psutil.NoSuchProcess:  # also of one that has ended, but was not waited for yet
        return False


@pytest.mark.parametrize("processes", [1, 3])
def test_decoder_processes_end_with_the_run(many: list[ImageRef], processes: int) -> None:
    read(many, FingerprintImages(settings=ReadSettings(decoder_processes=processes)))
    assert decoders() == []


def test_decoder_processes_end_with_a_run_that_fails(many: list[ImageRef]) -> None:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        done = image_blocks.references(pipeline, many) | FingerprintImages(
            settings=ReadSettings(decoder_processes=2)
        )
        return {"failed": done.fingerprints | beam.Map(fail)}

    with pytest.raises(Exception, match="failed on purpose"):
        run(build)
    assert decoders() == []


def fail(_: bytes) -> bytes:
    raise RuntimeError("failed on purpose")


def test_reading_writes_nothing_and_changes_no_time(tmp_path: Path) -> None:
    file = write(tmp_path / "in/picture", encoded(1))
    before = file.stat()
    read([ref(file)], FingerprintImages())
    assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert os.listdir(tmp_path / "in") == ["picture"]


def test_types_are_declared() -> None:
    images = image_blocks.references(beam.Pipeline(options=PipelineOptions([])), [ImageRef("a", "a")])
    assert images.element_type == beam.typehints.List[ImageRef]
    done = images | FingerprintImages()
    assert done.fingerprints.element_type is bytes
    assert done.rejections.element_type is bytes
    assert done.read_tally.element_type is ReadTally
