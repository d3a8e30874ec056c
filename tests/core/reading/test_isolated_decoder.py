"""Decoding in a process of its own: whatever happens to it, every other image gets its ordinary answer."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

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

# Stands in for beam_dedup.core.reading.decoder_process in the child: does with a file what its name says.
_HARMFUL = """
import os, signal, sys, time
from beam_dedup.core import decoder, inputs

ordinary = inputs.fingerprint

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

def last(*found):
    if os.environ["DIE_WITH_THE_ANSWER"] == "bug":
        raise ZeroDivisionError("in the answer")
    os._exit(4)  # after the last image

inputs.fingerprint = harmful
if os.environ.get("DIE_WITH_THE_ANSWER"):
    decoder._Answer.frames = last
if memory := os.environ.get("MEMORY"):
    decoder.MEMORY_BYTES = int(memory)
if os.environ.get("DIE_AT_ONCE"):
    sys.exit(5)
decoder.main()
"""


@pytest.fixture
def harmful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "harmful_decoder.py").write_text(_HARMFUL)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(
        isolated_decoder, "decoder", SimpleNamespace(__name__="harmful_decoder", READY=decoder_process.READY)
    )


@contextlib.contextmanager
def isolated(timeout: float = 60, recipe: Recipe | None = Recipe()) -> Iterator[IsolatedDecoder]:  # noqa: B008
    one = IsolatedDecoder(recipe, Limits(decode_seconds=timeout))
    try:
        yield one
    finally:
        one.close()


def pictures(folder: Path, *names: str) -> list[ImageRef]:
    """A picture under each name; those that begin with "known" are known images."""
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded(photo(number + 1, (40, 30))))
    return [ImageRef(str(folder / name), name, known="known" in name) for name in names]


def read_of(answer: DecodeResult) -> list[Fingerprint]:
    return list(fingerprints_of(blocks.load(answer.fingerprints, blocks.FINGERPRINTS)))


def rejected_of(answer: DecodeResult) -> list[Verdict]:
    return list(verdicts_of(blocks.load(answer.rejections, blocks.VERDICTS)))


def directly(references: list[ImageRef]) -> list[Fingerprint]:
    found = [
        image
        for reference in references
        for image in reader.read_images(reference, reference.uri, Recipe(), lambda _: None)
    ]
    assert all(isinstance(image, Fingerprint) for image in found)
    return [image for image in found if isinstance(image, Fingerprint)]


def test_answers_are_those_of_decoding_here(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a.png", "b.png", "known.png", "\udcff.png")
    gone = ImageRef(str(tmp_path / "gone"), "gone")
    known_gone = ImageRef(str(tmp_path / "known gone"), "known gone", known=True)
    with isolated() as one:
        answer = one.read([references[0], gone, *references[1:], known_gone])
        assert read_of(answer) == directly(references)
        assert [(verdict.ref, verdict.reason) for verdict in rejected_of(answer)] == [
            (gone, Reason.NOT_FOUND)
        ]
        assert answer.known_rejected == 1
        assert answer.bytes_read == sum(os.path.getsize(image.uri) for image in references)
        assert one.read([]) == DecodeResult()
        data = encoded(photo(9))
        (tmp_path / "copy").write_bytes(data)
        (tmp_path / "empty").touch()
        elsewhere = ImageRef("gs://somewhere/else.png", "else.png")
        (found,) = read_of(one.read([elsewhere], str(tmp_path / "copy")))
        assert (found.ref, found.size_bytes, found.modified_ms) == (elsewhere, len(data), 0)
        (empty,) = rejected_of(one.read([elsewhere], str(tmp_path / "empty")))
        assert (empty.ref, empty.reason) == (elsewhere, Reason.EMPTY)
        assert read_of(one.read(references)) == directly(references)


def test_digests_alone(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a.png")
    with isolated(recipe=None) as one:
        (found,) = read_of(one.read(references))
    assert (found.digest, found.codes) == (directly(references)[0].digest, ())


@pytest.mark.usefixtures("harmful")
def test_what_crashes_is_rejected_and_all_others_are_answered(tmp_path: Path) -> None:
    names = ("segv first", "a", "exit", "known exit", "b", "segv known", "chatty", "c", "exit last")
    names = (*names[:3], "exit known", *names[4:])
    references = pictures(tmp_path, *names)
    well = [image for image in references if image.name in ("a", "b", "chatty", "c")]
    with isolated() as one:
        answer = one.read(references)
        assert read_of(answer) == directly(well)
        assert [(verdict.ref.name, verdict.reason, verdict.detail) for verdict in rejected_of(answer)] == [
            ("segv first", Reason.DECODER_CRASHED, "the decoder ended with SIGSEGV"),
            ("exit", Reason.DECODER_CRASHED, "the decoder ended with exit code 3"),
            ("exit last", Reason.DECODER_CRASHED, "the decoder ended with exit code 3"),
        ]
        assert answer.known_rejected == 2
        # All of a batch, and then one that is well.
        answer = one.read([references[0], references[-1]])
        assert (read_of(answer), len(rejected_of(answer)), answer.bytes_read) == ([], 2, 0)
        assert read_of(one.read(well)) == directly(well)
        (tmp_path / "copy").write_bytes(b"whatever")
        (alone,) = rejected_of(one.read([references[0]], str(tmp_path / "copy")))
        assert alone.reason == Reason.DECODER_CRASHED


@pytest.mark.usefixtures("harmful")
def test_what_takes_too_long_is_rejected_at_once(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a", "hang", "b", "hang known", "c")
    started = time.monotonic()
    with isolated(timeout=1.5) as one:
        answer = one.read(references)
    assert [image.ref.name for image in read_of(answer)] == ["a", "b", "c"]
    (hung,) = rejected_of(answer)
    assert (hung.ref.name, hung.reason, hung.detail) == (
        "hang",
        Reason.TIMEOUT,
        "reading or decoding took longer than 1.5 s",
    )
    assert answer.known_rejected == 1
    assert time.monotonic() - started < 60


@pytest.mark.usefixtures("harmful")
def test_the_time_is_that_of_one_image_not_of_the_batch_nor_of_waiting(tmp_path: Path) -> None:
    references = pictures(tmp_path, *(f"slow {number}" for number in range(6)))
    with isolated(timeout=1.5) as one:
        assert len(read_of(one.read(references))) == 6
        process = one._process
        time.sleep(1.7)
        assert len(read_of(one.read(references[:1]))) == 1
        assert one._process is process, "it ended while it waited"


@pytest.mark.usefixtures("harmful")
def test_what_was_killed_from_outside_once_gets_its_ordinary_answer(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a", "once", "b", "once too", "once known")
    with isolated() as one:
        answer = one.read(references)
    assert read_of(answer) == directly(references)
    assert (answer.rejections, answer.known_rejected) == ([], 0)


@pytest.mark.usefixtures("harmful")
def test_two_that_crash_in_turns_do_not_go_on_for_ever(tmp_path: Path) -> None:
    references = pictures(tmp_path, "turns 1", "a", "turns 2")
    with isolated() as one:
        answer = one.read(references)
    assert len(read_of(answer)) + len(rejected_of(answer)) == 3
    assert "a" in [image.ref.name for image in read_of(answer)]


@pytest.mark.usefixtures("harmful")
def test_one_that_dies_with_the_answer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last image: there is none to blame, but it must not go on for ever."""
    monkeypatch.setenv("DIE_WITH_THE_ANSWER", "1")
    with isolated() as one:
        answer = one.read(pictures(tmp_path, "a", "b"))
    assert {verdict.reason for verdict in rejected_of(answer)} == {Reason.DECODER_CRASHED}


@pytest.mark.usefixtures("harmful")
def test_a_bug_of_ours_is_told_and_blames_no_image(tmp_path: Path) -> None:
    """An exception that nobody expected, as opposed to a decoder that crashes."""
    references = pictures(tmp_path, "a", "bug", "b")
    with isolated() as one:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no fault of the image") as raised:
                one.read(references)
            traceback, _, sentence = str(raised.value).rpartition("\n")
            assert sentence == (
                f"the process that decodes failed at {references[1].uri!r}, which is no fault of the image: "
                "ZeroDivisionError: as in our own code; "
                "set DEDUP_DEBUG=1 to see where, and please report it"
            )
            assert traceback.startswith("Traceback")
            assert "harmful_decoder.py" in traceback
            assert "ZeroDivisionError: as in" in traceback
        assert one._process is None
        assert len(read_of(one.read([references[0], references[2]]))) == 2


@pytest.mark.usefixtures("harmful")
def test_a_bug_without_an_image_in_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIE_WITH_THE_ANSWER", "bug")
    sentence = "decodes failed, which is no fault of the image: ZeroDivisionError: in the answer; set"
    with isolated() as one, pytest.raises(RuntimeError, match=sentence):
        one.read(pictures(tmp_path, "a", "b"))


@pytest.mark.usefixtures("harmful")
def test_want_of_memory_before_decoding_is_no_bug(tmp_path: Path) -> None:
    references = pictures(tmp_path, "a", "greedy", "b")
    with isolated() as one:
        answer = one.read(references)
    assert [image.ref.name for image in read_of(answer)] == ["a", "b"]
    (rejected,) = rejected_of(answer)
    assert (rejected.ref.name, rejected.reason) == ("greedy", Reason.TOO_LARGE)
    assert "memory" in rejected.detail


@pytest.mark.usefixtures("harmful")
def test_died_while_idle(tmp_path: Path) -> None:
    """No image is suspected: one that then crashes once, by chance, gets its answer."""
    references = pictures(tmp_path, "a", "b", "once")
    Path(references[2].uri + ".once").touch()
    with isolated() as one:
        for _ in range(2):
            one.read(references)
            assert one._process is not None
            os.kill(one._process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, one._process.pid, os.WEXITED | os.WNOWAIT)
            Path(references[2].uri + ".once").unlink()
        answer = one.read(references)
    assert read_of(answer) == directly(references)
    assert answer.rejections == []


def test_one_that_cannot_be_started_says_so(
    harmful: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIE_AT_ONCE", "1")
    references = pictures(tmp_path, "a")
    sentence = "can't be started: .* -m harmful_decoder ended with 5; set DEDUP_DEBUG=1"
    with isolated() as one:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=sentence):
                one.read(references)
        one.start()
        assert one._process is not None
        os.waitid(os.P_PID, one._process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeError, match=sentence):
            one.read(references)
        monkeypatch.delenv("DIE_AT_ONCE")
        assert len(read_of(one.read(references))) == 1


def test_one_that_is_dead_before_it_is_set_up_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(isolated_decoder, "send", broken)
    monkeypatch.setattr(
        isolated_decoder, "decoder", SimpleNamespace(__name__="no_such_module", READY=decoder_process.READY)
    )
    with isolated() as one, pytest.raises(RuntimeError, match="no_such_module ended with 1"):
        one.read([ImageRef("a", "a")])


def test_modules_in_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the folder of pictures, and those are strangers'."""
    references = pictures(tmp_path, "a")
    for name in ("PIL.py", "numpy.py", "struct.py", "beam_dedup.py"):
        (tmp_path / name).write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    with isolated() as one:
        assert len(read_of(one.read(references))) == 1


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    one = IsolatedDecoder(None)
    references = pictures(tmp_path, "a")

    def opened() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = opened()
    for number in range(20):
        one.start()
        if number % 5 == 0:
            one.read(references)
        if number % 3 == 0:
            assert one._process is not None
            one._process.kill()
        one.close()
        one.close()  # does no harm
    assert opened() == before


@pytest.mark.usefixtures("harmful")
def test_want_of_memory_is_undecodable_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY", str(450 << 20))
    Image.new("RGBA", (7700, 7700)).save(tmp_path / "large.png")
    large = ImageRef(str(tmp_path / "large.png"), "large")
    (small,) = pictures(tmp_path, "a")
    with isolated() as one:
        found = read_of(one.read([large, small]))
    assert [(image.ref, Flag.UNDECODABLE in image.flags) for image in found] == [
        (large, True),
        (small, False),
    ]
    assert found[0].codes == ()
    assert len(found[0].digest) == 32


@pytest.mark.usefixtures("harmful")
def test_a_lower_limit_of_the_system_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setenv("MEMORY", str(most + 1 if most != resource.RLIM_INFINITY else 1 << 40))
    with isolated() as one:
        assert len(read_of(one.read(pictures(tmp_path, "a")))) == 1
