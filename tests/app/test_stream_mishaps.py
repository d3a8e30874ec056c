"""Runs `dedup --watch` under adverse conditions: full disks, vanishing files, wrong clocks, concurrent runs.

No image may be lost or judged twice, and errors must name the problem.
"""

import functools
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from beam_dedup.core.model import Reason
from beam_dedup.options import checks, parser
from beam_dedup.stream.local_run import state_directory
from beam_dedup.stream.pipeline import unbounded_source
from tests.app.cli_runs import COMMAND, ROOT, dedup_apart, tree
from tests.app.fault_injection import BACK, DIE, MOST, PATIENCE
from tests.app.stream_process import records_below, running_stream
from tests.app.watched_folder import POLL_SECONDS, WatchedDirectory, check
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from tests.verdicts_outside import by_status, key_of
from tests.waiting import SECONDS, soon
from transforms.storage.listing import list_inputs
from transforms.stream.watch import WatchedSource

pytestmark = pytest.mark.slow


def test_copies_that_failed_on_a_full_disk_are_made_by_the_next_run(tmp_path: Path) -> None:
    """The first run fails, and its error names the path."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    for seed in range(3):
        incoming.write(f"{seed}.png", encoded(photo(seed, (500, 400))))
    with running_stream(tmp_path, *arguments, env={MOST: "20000"}) as run:
        assert run.process.wait(SECONDS) == 1, run.log_tail()
    assert run.records()
    message = run.log_tail().strip()
    assert message.count("\n") == 0
    assert message.startswith("dedup: failed: ")
    assert "File too large: " in message
    assert str(out) in message
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(3)
        run.wait_until(lambda: len(tree(out)) == 3)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


@pytest.mark.parametrize("most", ["1500", "3000"])  # the codes do not fit; the records do not fit
def test_records_that_failed_on_a_full_disk_are_written_by_the_next_run(tmp_path: Path, most: str) -> None:
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    for seed in range(12):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
    with running_stream(tmp_path, *arguments, env={MOST: most}) as run:
        assert run.process.wait(SECONDS) == 1, run.log_tail()
    assert run.records() == []
    assert "File too large: " in run.log_tail()
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(12)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_second_run_with_the_same_records_is_refused(tmp_path: Path) -> None:
    """In one sentence, as long as the first one runs. After the first one is killed, another one can start."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(1)
        second = dedup_apart(*arguments, "--records", tmp_path / "records")
        assert second.returncode == 2
        assert (
            second.stdout,
            second.stderr.count("another run writes to"),
            "Traceback" in second.stderr,
        ) == (
            "",
            1,
            False,
        )
        assert run.process.poll() is None
        run.kill()
    with running_stream(tmp_path, *arguments) as run:
        incoming.write("b.jpg", encoded(photo(2), "JPEG"))
        run.wait_for(2)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_watched_directory_is_removed_and_comes_back(tmp_path: Path) -> None:
    """One record reports that it was missing. Files that are in it later are judged."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        run.wait_for(1)
        for seed in (2, 3):
            run.wait_until(functools.partial(_has_files, out, seed - 1), what="copies")
            shutil.rmtree(incoming.folder)
            run.wait_until(
                lambda: bool(by_status(run.records(), "rejected")), what="the record of the directory"
            )
            time.sleep(2.5 * POLL_SECONDS)  # the second time there is no other record
            incoming.folder.mkdir()
            incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
            run.wait_for(1 + seed)
        run.wait_until(functools.partial(_has_files, out, 3), what="copies")
        assert run.drain() == 130, run.log_tail()
    (gone,) = by_status(run.records(), "rejected")
    assert (gone["uri"], gone["reason"]) == (str(incoming.folder), Reason.NOT_FOUND)
    assert {key_of(record) for record in by_status(run.records(), "kept")} == set(incoming.expected)
    assert sorted(tree(out)) == ["2.jpg", "3.jpg", "a.jpg"]


def _has_files(folder: Path, count: int) -> bool:
    return len(tree(folder)) == count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("deleted", "a.jpg vanished after it was read"),
        ("replaced", "a.jpg changed after it was read"),
        ("touched", ""),
    ],
)
def test_file_that_changes_before_it_is_copied_is_reported(change: str, message: str, tmp_path: Path) -> None:
    """At the end of the run. A file that replaced it is another image."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, *arguments, env={DIE: "after:1:records-"}) as run:
        run.process.wait(SECONDS)
    assert len(run.records()) == 1
    if change == "deleted":
        (incoming.folder / "a.jpg").unlink()
    elif change == "replaced":
        incoming.write("a.jpg", encoded(photo(2), "JPEG"))
    else:
        os.utime(incoming.folder / "a.jpg")
        incoming.expect("a.jpg")
    incoming.write("b.jpg", encoded(photo(3), "JPEG"))
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(len(incoming.expected))
        assert run.drain() == 130, run.log_tail()
    assert ("1 image could not be placed" in run.log_tail()) == bool(message)
    assert message in run.log_tail()
    assert {key_of(record) for record in run.records()} == set(incoming.expected)
    assert tree(out) == {path.name: path.read_bytes() for path in incoming.folder.iterdir()}


def test_renamed_file_is_copied_under_its_new_name(tmp_path: Path) -> None:
    """It was judged under the old name, which vanished before it was copied."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, *arguments, env={DIE: "after:1:records-"}) as run:
        run.process.wait(60)
    (incoming.folder / "a.jpg").rename(incoming.folder / "b.jpg")
    incoming.expect("b.jpg")
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(2)
        run.wait_until(lambda: list(tree(out)) == ["b.jpg"], what="copies")
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    assert [record["reason"] for record in run.records()] == [None, "exact"]


def test_picture_is_judged_when_its_writer_has_finished(tmp_path: Path) -> None:
    """However long the writer pauses, or the temporary name lasts. No part of it is judged."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    slow, renamed = (encoded(photo(seed, (600, 400)), "JPEG") for seed in (1, 2))
    with running_stream(tmp_path, *arguments, env={PATIENCE: "1000"}) as run:
        with (incoming.folder / "slow.jpg").open("wb") as file:
            file.write(slow[: len(slow) * 97 // 100])
        (incoming.folder / ".renamed.jpg.Xy12Ab").write_bytes(renamed)
        incoming.write("whole.jpg", encoded(photo(3), "JPEG"))
        run.wait_for(1)
        time.sleep(3 * POLL_SECONDS)
        with (incoming.folder / "slow.jpg").open("ab") as file:
            file.write(slow[len(slow) * 97 // 100 :])
        (incoming.folder / ".renamed.jpg.Xy12Ab").rename(incoming.folder / "renamed.jpg")
        for name in ("slow.jpg", "renamed.jpg"):
            incoming.expect(name)
        run.wait_for(3)
        run.wait_until(lambda: len(tree(out)) == 3, what="copies")
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    assert tree(out) == {path.name: path.read_bytes() for path in incoming.folder.iterdir()}


def test_whole_picture_is_kept_after_a_part_of_it(tmp_path: Path) -> None:
    """The part was judged, because its writer paused for too long, and is copied under the name of the file."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    data = encoded(photo(1, (600, 400)), "JPEG")
    incoming.write("a.jpg", data[: len(data) * 97 // 100])
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(1)
        run.wait_until(lambda: len(tree(out)) == 1, what="copies")
        with (incoming.folder / "a.jpg").open("ab") as file:
            file.write(data[len(data) * 97 // 100 :])
        incoming.expect("a.jpg")
        run.wait_for(2)
        incoming.write("b.jpg", data)
        run.wait_for(3)
        run.wait_until(lambda: len(tree(out)) == 2, what="copies")
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    assert data in tree(out).values()
    assert [record["status"] for record in run.records()] == ["kept", "kept", "duplicate"]


def test_modification_times_do_not_matter(tmp_path: Path) -> None:
    """Times in the future, at and before the epoch, and just now."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    now = time.time()
    for seed, when in enumerate((now + 1e8, 0, -1e8, now - 10)):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
        os.utime(incoming.folder / f"{seed}.jpg", (when, when))
        incoming.expected.popitem()
        incoming.expect(f"{seed}.jpg")
    for _ in range(2):
        with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
            run.wait_until((run.folder / "records/.state/processes").exists)
            run.wait_for(4)
            time.sleep(3 * POLL_SECONDS)
            assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


@pytest.mark.parametrize("arguments", [(), ("--window", "3s")])
def test_clock_that_is_set_back_delays_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """New images are judged soon after the clock went back by an hour, not an hour later."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    back = tmp_path / "back"
    for seed in range(2):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
    command = ("-n", "--watch", "-i", incoming.folder, "-d", out, *arguments)
    with running_stream(tmp_path, *command, env={BACK: str(back)}) as run:
        run.wait_for(2)
        back.touch()
        for seed in (2, 3):
            incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
            run.wait_for(seed + 1)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_members_of_a_replaced_archive_get_other_names(tmp_path: Path) -> None:
    """If the new archive has a different member with the same name, its copy gets another name, as with files."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    first, second, both = (encoded(photo(seed), "JPEG") for seed in range(3))
    archive = incoming.folder / "a.zip"
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        for members in ({"x.jpg": first, "y.jpg": both}, {"x.jpg": second, "y.jpg": both}):
            partial = tmp_path / "partial"
            partial.write_bytes(zipped(members))
            partial.rename(archive)
            before = len(run.records())
            run.wait_for(before + 2)
            run.wait_until(lambda: len(tree(out)) == len(by_status(run.records(), "kept")))
        assert run.drain() == 130, run.log_tail()
    assert "could not be placed" not in run.log_tail()
    (name,) = set(tree(out)) - {"a.zip/x.jpg", "a.zip/y.jpg"}
    assert name.startswith("a.zip/x~")
    assert tree(out) == {"a.zip/x.jpg": first, "a.zip/y.jpg": both, name: second}


def test_outputs_and_state_in_the_watched_directory_are_not_read(tmp_path: Path) -> None:
    """Otherwise each file of records would cause a new record, without end."""
    incoming = WatchedDirectory(tmp_path / "in")
    for seed in range(3):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
    with running_stream(
        incoming.folder, "-n", "--watch", "-i", incoming.folder, "-d", incoming.folder / "out"
    ) as run:
        run.wait_for(3)
        time.sleep(4 * POLL_SECONDS)
        assert run.drain() == 130
    uris = {Path(record["uri"]).name for record in records_below(incoming.folder)}
    assert uris - {"log"} == {"0.jpg", "1.jpg", "2.jpg"}


def test_state_of_remote_records_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in the current directory, which may be the watched one."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--watch", "-i", ".", "--records", "gs://bucket/records"]
    config = checks.configure(parser.parse(arguments)[0])
    source = unbounded_source(config, state_directory(config))
    assert isinstance(source, WatchedSource)
    Path("a.jpg").write_bytes(b"")
    Path("image_records.state/codes-1.blocks").write_bytes(b"")
    assert [file.path for file in list_inputs(source.paths, source.exclude)] == ["./a.jpg"]


def test_runs_with_closed_standard_streams(tmp_path: Path) -> None:
    """Some service managers start it so. Files it opens must not be mistaken for standard streams."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    arguments = [
        "-n",
        "--watch",
        "-i",
        str(incoming.folder),
        "-d",
        str(out),
        "--records",
        str(tmp_path / "records"),
    ]
    script = 'exec "$@" <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", script, "sh", *COMMAND, *arguments], cwd=ROOT)
    try:
        assert soon(lambda: tree(out) or process.poll() is not None)
        assert process.poll() is None, process.returncode
        process.terminate()
        assert process.wait(SECONDS) == 143
    finally:
        process.kill()
        process.wait()
    assert len(records_below(tmp_path)) == 1
