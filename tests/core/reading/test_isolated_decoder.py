"""IsolatedDecoder: images that are not harmful get their normal result, whatever happens to the process."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from beam_dedup.core import blocks
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Fingerprint, Flag, ImageRef, Reason, Verdict
from beam_dedup.core.reading import decoder_process, isolated_decoder, reader
from beam_dedup.core.reading.isolated_decoder import DecodeResult, IsolatedDecoder
from beam_dedup.core.tables import fingerprints_of, verdicts_of
from tests.pictures import encoded, photo

# The module that the process runs instead of beam_dedup.core.reading.decoder_process. The name of a file
# selects the harm.
_HARMFUL = """
import os, signal, sys, time
from beam_dedup.core import limits
from beam_dedup.core.reading import decoder_process, reader

ordinary = reader.fingerprint

def harmful(reference, *rest):
    name = os.path.basename(reference.uri)
    once = reference.uri + ".once"
    if name.startswith("once") and not os.path.exists(once):
        open(once, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("turns"):  # crashes every other time
        if os.path.exists(once):
            os.remove(once)
        else:
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("exit"):
        os._exit(3)
    if name.startswith("hang"):
        time.sleep(1000)
    if name.startswith("slow"):
        time.sleep(0.4)
    if name.startswith("bug"):
        raise ZeroDivisionError("as in\\nour own code")
    if name.startswith("greedy"):
        raise MemoryError
    if name.startswith("chatty"):
        print("printed by a decoder", flush=True)
        os.write(1, b"x" * 100)
    return ordinary(reference, *rest)

class DeadlyReply(decoder_process.Reply):
    def frames(self, *position):
        if os.environ["DIE_WITH_THE_REPLY"] == "bug":
            raise ZeroDivisionError("in the reply")
        os._exit(4)  # after the last image

reader.fingerprint = harmful
if os.environ.get("DIE_AT_ONCE"):
    sys.exit(5)
decoder_process.main(
    memory_bytes=int(os.environ.get("MEMORY", limits.MEMORY_BYTES)),
    reply_type=DeadlyReply if os.environ.get("DIE_WITH_THE_REPLY") else decoder_process.Reply,
    take_rights=lambda: None,  # some of the above write files
)
"""
HARMFUL_MODULE = "harmful_decoder"


@pytest.fixture
def harmful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / f"{HARMFUL_MODULE}.py").write_text(_HARMFUL)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    passed = (*isolated_decoder.PASSED_VARIABLES, "MEMORY", "DIE_WITH_THE_REPLY", "DIE_AT_ONCE")
    monkeypatch.setattr(isolated_decoder, "PASSED_VARIABLES", passed)


@contextlib.contextmanager
def isolated(
    timeout: float = 60,
    recipe: Recipe | None = Recipe(),  # noqa: B008
    module: str = decoder_process.__name__,
) -> Iterator[IsolatedDecoder]:
    decoder = IsolatedDecoder(recipe, Limits(decode_seconds=timeout), module)
    try:
        yield decoder
    finally:
        decoder.close()


def pictures(folder: Path, *names: str) -> list[ImageRef]:
    """Writes a picture under each name; images with "known" in their name are known."""
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded(photo(number + 1, (40, 30))))
    return [ImageRef(str(folder / name), name, known="known" in name) for name in names]


def read_of(result: DecodeResult) -> list[Fingerprint]:
    return list(fingerprints_of(blocks.load(result.fingerprints, blocks.FINGERPRINTS)))


def rejected_of(result: DecodeResult) -> list[Verdict]:
    return list(verdicts_of(blocks.load(result.rejections, blocks.VERDICTS)))


def directly(references: list[ImageRef]) -> list[Fingerprint]:
    found = [
        image
        for reference in references
        for image in reader.read_images(reference, reference.uri, Recipe(), lambda _: None)
    ]
    assert all(isinstance(image, Fingerprint) for image in found)
    return [image for image in found if isinstance(image, Fingerprint)]


def test_results_equal_those_of_decoding_in_this_process(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a.png", "b.png", "known.png", "\udcff.png")
    gone = ImageRef(str(tmp_path / "gone"), "gone")
    known_gone = ImageRef(str(tmp_path / "known gone"), "known gone", known=True)
    with isolated() as decoder:
        result = decoder.read([references[0], gone, *references[1:], known_gone])
        assert read_of(result) == directly(references)
        assert [(verdict.ref, verdict.reason) for verdict in rejected_of(result)] == [
            (gone, Reason.NOT_FOUND)
        ]
        assert result.known_rejected == 1
        assert result.bytes_read == sum(os.path.getsize(image.uri) for image in references)
        assert decoder.read([]) == DecodeResult()
        data = encoded(photo(9))
        (tmp_path / "copy").write_bytes(data)
        (tmp_path / "empty").touch()
        elsewhere = ImageRef("gs://somewhere/else.png", "else.png")
        (found,) = read_of(decoder.read([elsewhere], [str(tmp_path / "copy")]))
        assert (found.ref, found.size_bytes, found.modified_ms) == (elsewhere, len(data), 0)
        (empty,) = rejected_of(decoder.read([elsewhere], [str(tmp_path / "empty")]))
        assert (empty.ref, empty.reason) == (elsewhere, Reason.EMPTY)
        assert read_of(decoder.read(references)) == directly(references)


def test_without_recipe_computes_digests_only(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a.png")
    with isolated(recipe=None) as decoder:
        (found,) = read_of(decoder.read(references))
    assert (found.digest, found.codes) == (directly(references)[0].digest, ())


@pytest.mark.usefixtures("harmful")
def test_crashing_images_are_rejected_and_all_others_are_read(tmp_path: Path) -> None:
    names = ("segv first", "a", "exit", "known exit", "b", "segv known", "chatty", "c", "exit last")
    names = (*names[:3], "exit known", *names[4:])
    references = pictures(tmp_path, *names)
    well = [image for image in references if image.name in ("a", "b", "chatty", "c")]
    with isolated(module=HARMFUL_MODULE) as decoder:
        result = decoder.read(references)
        assert read_of(result) == directly(well)
        assert [(verdict.ref.name, verdict.reason, verdict.detail) for verdict in rejected_of(result)] == [
            ("segv first", Reason.DECODER_CRASHED, "the decoder ended with SIGSEGV"),
            ("exit", Reason.DECODER_CRASHED, "the decoder ended with exit code 3"),
            ("exit last", Reason.DECODER_CRASHED, "the decoder ended with exit code 3"),
        ]
        assert result.known_rejected == 2
        # First every image of a request crashes, then a request without harmful images follows.
        result = decoder.read([references[0], references[-1]])
        assert (read_of(result), len(rejected_of(result)), result.bytes_read) == ([], 2, 0)
        assert read_of(decoder.read(well)) == directly(well)
        (tmp_path / "copy").write_bytes(b"whatever")
        (alone,) = rejected_of(decoder.read([references[0]], [str(tmp_path / "copy")]))
        assert alone.reason == Reason.DECODER_CRASHED


@pytest.mark.usefixtures("harmful")
def test_image_that_takes_too_long_is_rejected_and_not_tried_again(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a", "hang", "b", "hang known", "c")
    started = time.monotonic()
    with isolated(4, module=HARMFUL_MODULE) as decoder:
        result = decoder.read(references)
    assert [image.ref.name for image in read_of(result)] == ["a", "b", "c"]
    (hung,) = rejected_of(result)
    assert (hung.ref.name, hung.reason, hung.detail) == (
        "hang",
        Reason.TIMEOUT,
        "reading or decoding took longer than 4 s",
    )
    assert result.known_rejected == 1
    assert time.monotonic() - started < 60


@pytest.mark.usefixtures("harmful")
def test_time_limit_applies_to_one_image_not_to_the_request_nor_to_waiting(tmp_path: Path) -> None:
    references = pictures(tmp_path, *(f"slow {number}" for number in range(12)))
    with isolated(4, module=HARMFUL_MODULE) as decoder:
        assert len(read_of(decoder.read(references))) == 12
        process = decoder.process
        time.sleep(4.2)
        assert len(read_of(decoder.read(references[:1]))) == 1
        assert decoder.process is process, "the process ended while it waited"


@pytest.mark.usefixtures("harmful")
def test_image_at_which_the_process_was_killed_once_is_read_normally(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a", "once", "b", "once too", "once known")
    with isolated(module=HARMFUL_MODULE) as decoder:
        result = decoder.read(references)
    assert read_of(result) == directly(references)
    assert (result.rejections, result.known_rejected) == ([], 0)


@pytest.mark.usefixtures("harmful")
def test_two_images_that_crash_alternately_end_the_request(tmp_path: Path) -> None:
    references = pictures(tmp_path, "turns 1", "a", "turns 2")
    with isolated(module=HARMFUL_MODULE) as decoder:
        result = decoder.read(references)
    assert len(read_of(result)) + len(rejected_of(result)) == 3
    assert "a" in [image.ref.name for image in read_of(result)]


@pytest.mark.usefixtures("harmful")
def test_process_that_dies_with_every_reply_ends_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after the last image, so no image is to blame; but the request must end."""
    monkeypatch.setenv("DIE_WITH_THE_REPLY", "1")
    with isolated(module=HARMFUL_MODULE) as decoder:
        result = decoder.read(pictures(tmp_path, "a", "b"))
    assert {verdict.reason for verdict in rejected_of(result)} == {Reason.DECODER_CRASHED}


@pytest.mark.usefixtures("harmful")
def test_bug_while_decoding_is_reported_and_blames_no_image(tmp_path: Path) -> None:
    """An unexpected exception is a bug; a decoder that crashes is not."""
    references = pictures(tmp_path, "a", "bug", "b")
    with isolated(module=HARMFUL_MODULE) as decoder:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no fault of the image") as raised:
                decoder.read(references)
            traceback, _, message = str(raised.value).rpartition("\n")
            assert message == (
                f"the decoder process failed at {references[1].uri!r}, which is no fault of the image: "
                "ZeroDivisionError: as in our own code; "
                "set DEDUP_DEBUG=1 to see the traceback, and please report it"
            )
            assert traceback.startswith("Traceback")
            assert "harmful_decoder.py" in traceback
            assert "ZeroDivisionError: as in" in traceback
        assert decoder.process is None
        assert len(read_of(decoder.read([references[0], references[2]]))) == 2


@pytest.mark.usefixtures("harmful")
def test_bug_between_images_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIE_WITH_THE_REPLY", "bug")
    message = "decoder process failed, which is no fault of the image: ZeroDivisionError: in the reply; set"
    with isolated(module=HARMFUL_MODULE) as decoder, pytest.raises(RuntimeError, match=message):
        decoder.read(pictures(tmp_path, "a", "b"))


@pytest.mark.usefixtures("harmful")
def test_out_of_memory_before_decoding_rejects_the_image(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a", "greedy", "b")
    with isolated(module=HARMFUL_MODULE) as decoder:
        result = decoder.read(references)
    assert [image.ref.name for image in read_of(result)] == ["a", "b"]
    (rejected,) = rejected_of(result)
    assert (rejected.ref.name, rejected.reason) == ("greedy", Reason.TOO_LARGE)
    assert "memory" in rejected.detail


@pytest.mark.usefixtures("harmful")
def test_process_that_died_between_requests_makes_no_image_suspect(tmp_path: Path) -> None:
    """An image that then crashes once, by chance, is read normally."""
    references = pictures(tmp_path, "a", "b", "once")
    Path(references[2].uri + ".once").touch()
    with isolated(module=HARMFUL_MODULE) as decoder:
        for _ in range(2):
            decoder.read(references)
            assert decoder.process is not None
            os.kill(decoder.process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, decoder.process.pid, os.WEXITED | os.WNOWAIT)
            Path(references[2].uri + ".once").unlink()
        result = decoder.read(references)
    assert read_of(result) == directly(references)
    assert result.rejections == []


def test_process_that_cannot_be_started_is_reported(
    harmful: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIE_AT_ONCE", "1")
    references = pictures(tmp_path, "a")
    message = "can't be started: .* -m harmful_decoder ended with 5; set DEDUP_DEBUG=1"
    with isolated(module=HARMFUL_MODULE) as decoder:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=message):
                decoder.read(references)
        decoder.start()
        assert decoder.process is not None
        os.waitid(os.P_PID, decoder.process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeError, match=message):
            decoder.read(references)
        monkeypatch.delenv("DIE_AT_ONCE")
        assert len(read_of(decoder.read(references))) == 1


def test_process_that_dies_before_it_gets_its_settings_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(isolated_decoder, "send", broken)
    ended = pytest.raises(RuntimeError, match="no_such_module ended with 1")
    with isolated(module="no_such_module") as decoder, ended:
        decoder.read([ImageRef("a", "a")])


def test_modules_in_the_current_directory_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the directory of images, whose files are written by strangers."""
    references = pictures(tmp_path, "a")
    for name in ("PIL.py", "numpy.py", "struct.py", "beam_dedup.py"):
        (tmp_path / name).write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    with isolated() as decoder:
        assert len(read_of(decoder.read(references))) == 1


def test_process_has_no_keys_of_stores_and_no_rights_that_it_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secret.json")
    monkeypatch.setenv("ANYTHING_ELSE", "secret")
    with isolated() as decoder:
        assert len(read_of(decoder.read(pictures(tmp_path, "a")))) == 1
        assert decoder.process is not None
        files = Path(f"/proc/{decoder.process.pid}")
        if not files.is_dir():
            pytest.skip("needs /proc of Linux")
        environment = (files / "environ").read_bytes()
        status = (files / "status").read_text()
    assert b"secret" not in environment
    assert b"PATH=" in environment
    assert "NoNewPrivs:\t1\n" in status


def test_no_file_descriptor_leaks(tmp_path: Path) -> None:
    decoder = IsolatedDecoder(None)
    references = pictures(tmp_path, "a")

    def opened() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = opened()
    for number in range(20):
        decoder.start()
        if number % 5 == 0:
            decoder.read(references)
        if number % 3 == 0:
            assert decoder.process is not None
            decoder.process.kill()
        decoder.close()
        decoder.close()  # a second time has no effect
    assert opened() == before


@pytest.mark.usefixtures("harmful")
def test_picture_that_needs_too_much_memory_is_undecodable_and_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY", str(450 << 20))
    Image.new("RGBA", (7700, 7700)).save(tmp_path / "large.png")
    large = ImageRef(str(tmp_path / "large.png"), "large")
    (small,) = pictures(tmp_path, "a")
    with isolated(module=HARMFUL_MODULE) as decoder:
        found = read_of(decoder.read([large, small]))
    assert [(image.ref, Flag.UNDECODABLE in image.flags) for image in found] == [
        (large, True),
        (small, False),
    ]
    assert found[0].codes == ()
    assert len(found[0].digest) == 32
    assert [image.flags for image in found] == [(Flag.UNDECODABLE, Flag.OUT_OF_MEMORY), ()]
    assert found[0].detail == "out of memory"


@pytest.mark.usefixtures("harmful")
def test_lower_memory_limit_of_the_system_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setenv("MEMORY", str(most + 1 if most != resource.RLIM_INFINITY else 1 << 40))
    with isolated(module=HARMFUL_MODULE) as decoder:
        assert len(read_of(decoder.read(pictures(tmp_path, "a")))) == 1
