"""Checks that all local runners give the same verdicts, end cleanly on signals, and report failures in one sentence."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_dedup import cli, preflight
from beam_dedup.core import blocks, tables
from beam_dedup.core.model import ImageRef
from beam_dedup.core.reading import decoder_process
from beam_dedup.options import defaults
from beam_dedup.options.config import DedupConfig
from beam_dedup.runners import select
from beam_dedup.samples import picture
from tests.app import full_disk
from tests.app.cli_runs import COMMAND, ROOT, dedup, dedup_apart, tree
from tests.waiting import SECONDS, soon

MODES = ("in_memory", "multi_threading", pytest.param("multi_processing", marks=pytest.mark.processes))


@pytest.fixture(scope="module")
def expected(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of the samples from a run with one worker."""
    path = tmp_path_factory.mktemp("expected") / "r.jsonl"
    assert dedup("-n", "-i", samples, "-j", 1, "--quiet", "--records", path) == 0
    return path.read_bytes()


@pytest.mark.parametrize("jobs", [2, 4])
@pytest.mark.parametrize("mode", MODES)
def test_records_do_not_depend_on_runner_mode_and_jobs(
    mode: str, jobs: int, samples: Path, expected: bytes, tmp_path: Path
) -> None:
    records = tmp_path / "r.jsonl"
    flags = ("--quiet", "-j", jobs, f"--direct_running_mode={mode}")
    assert dedup("-n", "-i", samples, "--records", records, *flags) == 0
    assert records.read_bytes() == expected


@pytest.mark.parametrize("order", ["reversed", "sizes"])
def test_records_do_not_depend_on_the_order_of_files(
    order: str, samples: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transforms import read

    listed = read.list_files

    def shuffled(folder: str, exclude: tuple[str, ...] = ()) -> Iterator[str]:
        names = list(listed(folder, exclude))
        if order == "reversed":
            return reversed(names)
        return iter(sorted(names, key=lambda name: os.stat(os.path.join(folder, name)).st_size))

    monkeypatch.setattr(read, "list_files", shuffled)
    assert (
        dedup("-n", "-i", samples, "--records", tmp_path / "r", "--direct_runner_bundle_repeat=1", "-j", 1)
        == 0
    )
    assert (tmp_path / "r").read_bytes() == expected


@pytest.mark.parametrize(
    ("flags", "workers", "processes"),
    [
        ((), 1, 5),
        (("--runner=FnApiRunner",), 1, 5),
        (("--direct_running_mode=multi_threading",), 5, 1),
        (("--direct_running_mode=multi_processing",), 5, 1),
        (("--direct_running_mode=multi_threading", "--direct_num_workers=3"), 3, 1),
        (("--direct_num_workers=3",), 3, 1),
        (("--runner=PortableRunner",), 1, 1),
    ],
)
def test_choice_of_workers_and_decoder_processes(
    flags: tuple[str, ...], workers: int, processes: int
) -> None:
    """Either one worker with as many decoder processes as jobs, or as many workers with one decoder process each."""
    config = DedupConfig(inputs=("in",), jobs=5)
    options = select.beam_options(flags)
    runner = select.runner_for(options, config)
    assert isinstance(runner, FnApiRunner) == select.is_local(options)
    assert options.view_as(DirectOptions).direct_num_workers == workers
    assert select.decoder_processes(options, config) == processes


def test_help_does_not_import_beam() -> None:
    code = "import sys; from beam_dedup.cli import main; main(['--help']); print([m for m in sys.modules if 'beam' in m])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert "apache_beam" not in shown.splitlines()[-1]
    assert "beam_dedup" in shown.splitlines()[-1]


# Lets a process finish its first copy, and waits without end before the next one gets its final name.
ENDLESS_COPY = """
import os, threading

real = os.utime
copies = []

def waiting(file, *rest, **more):
    if isinstance(file, int):  # the descriptor of a copy that has all its bytes
        copies.append(file)
        if len(copies) > 1:
            threading.Event().wait()
    return real(file, *rest, **more)

os.utime = waiting
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_copying_leaves_only_complete_copies(
    mode: str, number: signal.Signals, tmp_path: Path
) -> None:
    """The signal goes to all processes of the group, as from a terminal."""
    folder, out, site = tmp_path / "in", tmp_path / "out", tmp_path / "site"
    folder.mkdir()
    for seed in range(6):
        picture(seed).save(folder / f"{seed}.png")
    before = tree(folder)
    site.mkdir()
    (site / "sitecustomize.py").write_text(ENDLESS_COPY)
    process = _started(
        *("-n", "-i", folder, "-d", out, "--records", tmp_path / "r.jsonl", "-o", "", "-j", "2"),
        f"--direct_running_mode={mode}",
        PYTHONPATH=os.pathsep.join((str(site), str(ROOT))),
    )
    try:
        assert soon(lambda: process.poll() is not None or (_begun(out) and _copied(out)))
        assert process.poll() is None, process.communicate()
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number)
        _, output = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + number, output
    assert "interrupted" in output
    assert "Traceback" not in output
    copied = tree(out)
    assert copied
    assert copied.items() <= before.items(), "an incomplete file, or a temporary name"
    assert tree(folder) == before
    assert soon(lambda: not _group_is_alive(process.pid))
    assert not any(map(_runs, children))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_signal_while_decoding_ends_the_decoder_processes(
    mode: str, number: signal.Signals, samples: Path, tmp_path: Path
) -> None:
    """Decoder processes have a session of their own, and end with their parent even if it is killed."""
    for copy in range(20):
        shutil.copytree(samples, tmp_path / "in" / str(copy))
    process = _started(
        *("-n", "-i", tmp_path / "in", "-o", "", "--records", tmp_path / "r", "-j", 2),
        f"--direct_running_mode={mode}",
    )

    def children() -> list[psutil.Process]:
        return psutil.Process(process.pid).children(recursive=True)

    try:
        assert soon(lambda: process.poll() is not None or sum(map(_decodes, children())) == 2)
        assert process.poll() is None, process.communicate()
        found = children()
        assert all(child.pid == os.getsid(child.pid) for child in found if _decodes(child))
        os.killpg(process.pid, number)
        process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert soon(lambda: not any(map(_runs, found)))
    assert os.listdir(tmp_path) == ["in"]


def _started(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    # A shell ignores Ctrl-C for a test run in the background, and its child processes inherit that.
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _decodes(process: psutil.Process) -> bool:
    try:
        return decoder_process.__name__ in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _runs(process: psutil.Process) -> bool:
    """Returns whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _begun(out: Path) -> bool:
    """Returns whether a copy is being written under its temporary name."""
    return any(path.name.startswith(".dedup-") for path in out.glob("*"))


def _copied(out: Path) -> bool:
    """Returns whether a copy has its final name."""
    return any(not path.name.startswith(".dedup-") for path in out.glob("*"))


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("mode", MODES)
def test_images_that_could_not_be_placed_are_reported_at_the_end(
    mode: str, samples: Path, tmp_path: Path
) -> None:
    """A directory is in the way of one copy, and a different file in the way of another; all others are placed."""
    first, second, *_ = sorted(path.relative_to(samples) for path in samples.rglob("*.png"))
    (tmp_path / "out" / first / "x").mkdir(parents=True)
    (tmp_path / "out" / second).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / second).write_text("mine")
    records = tmp_path / "r.jsonl"
    ended = dedup_apart(
        *("-i", samples, "-d", tmp_path / "out", "--records", records, "-o", ""),
        *(f"--direct_running_mode={mode}", "-j", "2"),
    )
    assert ended.returncode == 1
    message = ended.stderr[ended.stderr.index("dedup: 2 images") :].splitlines()
    assert message[0] == "dedup: 2 images could not be placed:"
    assert [str(name) in line for name, line in zip((first, second), message[1:], strict=True)] == [
        True,
        True,
    ]
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "out" / second).read_text() == "mine"
    kept = [
        record for record in map(json.loads, records.read_text().splitlines()) if record["status"] == "kept"
    ]
    assert len(tree(tmp_path / "out")) == len(kept) - 1
    assert not list((tmp_path / "out").rglob(".dedup-*"))


@pytest.mark.parametrize("mode", MODES)
def test_failure_is_reported_in_one_sentence(mode: str, samples: Path, tmp_path: Path) -> None:
    """Writing the records fails, after all images are judged, because the device is full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full, which Linux has")
    ended = dedup_apart(
        *("-i", samples, "-o", "", "--records", tmp_path / "gone" / "r.jsonl", "--quiet"),
        *(f"--direct_running_mode={mode}", "-j", "2"),
        env={**os.environ, "PYTHONPATH": full_disk.python_path(tmp_path)},
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("dedup: failed: ")
    assert "No space left on device" in ended.stderr


@pytest.mark.parametrize("mode", MODES)
def test_bug_in_the_decoder_process_is_reported_in_one_sentence_and_blames_no_image(
    mode: str, samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        f"if {decoder_process.__name__!r} in sys.orig_argv:\n"
        "    from beam_dedup.core.reading import reader as inputs\n"
        "    inputs.fingerprint = lambda *_: {}['missing']\n"
    )
    ended = dedup_apart(
        *("-i", samples, "-o", "", "--records", tmp_path / "r.jsonl", "--quiet"),
        *(f"--direct_running_mode={mode}", "-j", "2"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("dedup: failed: the decoder process failed at ")
    assert "no fault of the image: KeyError: 'missing'; set DEDUP_DEBUG=1" in ended.stderr
    assert not (tmp_path / "r.jsonl").exists()


def test_violated_conservation_exits_with_1(
    samples: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transforms import metrics

    monkeypatch.setattr(metrics, "count", _one_image_only)
    assert dedup("-i", samples, "--quiet", "-j", 1) == 1
    assert "lost or judged twice" in capfd.readouterr().err


def _one_image_only(block: bytes) -> bytes:
    """Replaces the images of all verdicts by the same one, as if it was judged many times and all others were lost."""
    table = blocks.load([block], blocks.VERDICTS)
    one = ImageRef("one/and/the/same", "x")
    verdicts = [dataclasses.replace(verdict, ref=one) for verdict in tables.verdicts_of(table)]
    return blocks.dump(tables.verdicts_table(verdicts))


def test_another_package_named_transforms_is_reported(tmp_path: Path) -> None:
    (tmp_path / "transforms.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    ended = dedup_apart("-i", tmp_path, cwd=tmp_path, env=environment)
    assert ended.returncode == 1
    assert str(tmp_path / "transforms.py") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_file_with_the_name_of_a_partial_file_is_judged_and_not_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as other:
        check_that_a_partial_file_is_judged(tmp_path, other.pid)


def test_partial_file_of_an_earlier_process_with_the_same_number_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 3600)
    check_that_a_partial_file_is_judged(tmp_path, os.getpid())


def check_that_a_partial_file_is_judged(folder: Path, process: int) -> None:
    partial = folder / f".dedup-{process}-abc.part"
    partial.write_bytes(b"GIF89a")
    (folder / "a.gif").write_bytes(b"GIF89a")
    assert dedup("-i", folder, "--records", folder / "r") == 0
    assert len((folder / "r").read_text().splitlines()) == 2
    assert partial.exists()


def test_is_remote_is_the_same_in_preflight_and_storage() -> None:
    from transforms.storage import files as storage

    for path, remote in (
        ("gs://b/x", True),
        ("a/b", False),
        ("/a", False),
        ("s3://b", True),
        ("c:\\x", False),
    ):
        assert [vars(module)["is_remote"](path) for module in (preflight, storage)] == [remote, remote]
    assert cli.WRONG_USAGE == 2
    assert defaults.DEFAULT_OUTPUT_JSON == "image_locations.json"
