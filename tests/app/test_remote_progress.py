"""Checks the status of streams on other runners, against a server that answers as Flink does."""

import io
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from apache_beam.runners.runner import PipelineResult

from beam_dedup.runners import flink_rest, select
from beam_dedup.stream.remote_progress import (
    StatusLine,
    from_metrics,
    from_tally,
    hint,
    showing_status,
    source,
)
from tests.app.test_other_runners import counter
from transforms import metrics
from transforms.tally import FOUND, LATENCY, Tally

JOBS = {
    "jobs": [
        {"jid": "old", "name": "crawl", "start-time": 1, "state": "CANCELED"},
        {"jid": "new", "name": "crawl", "start-time": 2, "state": "RUNNING"},
        {"jid": "other", "name": "another", "start-time": 3, "state": "RUNNING"},
    ]
}
READ = {  # the sum and the largest value, by name
    "[3]Admit/{Admit__References}.beam_dedup_Admitted_Count": (20, 12),
    "[5]{Judge__Record}.beam_dedup_Read_Reference_Count": (19, 10),
    "[5]{Judge__Record}.beam_dedup_Found_Image_Count": (22, 14),
    "0.numRecordsIn": (7, 7),
}
RECORD = {
    "[1]Record/Record.beam_dedup_Initial_Image_Count": (17, 17),
    "[1]Record/Record.beam_dedup_Final_Image_Count": (4, 4),
    "[1]Record/Record.beam_dedup_Rejected_Count": (1, 1),
    "[1]Record/Record.beam_dedup_Verdict_Latency_p50_ms": (2000, 1700),
    "[1]Record/Record.beam_dedup_Verdict_Latency_p95_ms": (3000, 1800),
}
VERTICES = {"a": READ, "b": RECORD, "c": dict[str, tuple[int, int]]()}
TEXT = (
    "20 arrived, 17 judged (4 kept, 12 duplicates, 1 rejected), 6 in flight, latency 1.7 s (95% within 1.8 s)"
)


def answer(path: str) -> Any:
    """Returns what Flink answers to a request."""
    url = urllib.parse.urlparse(path)
    if url.path == "/jobs/overview":
        return JOBS
    if url.path == "/jobs/new":
        return {"vertices": [{"id": name} for name in VERTICES]}
    vertex = VERTICES[url.path.removeprefix("/jobs/new/vertices/").removesuffix("/subtasks/metrics")]
    if not url.query:
        return [{"id": name} for name in vertex]
    query = urllib.parse.parse_qs(url.query)
    assert query["agg"] == ["sum,max"]
    return [
        {"id": name, "sum": float(vertex[name][0]), "max": float(vertex[name][1])}
        for name in query["get"][0].split(",")
    ]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(answer(self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def flink() -> Iterator[str]:
    """HOST:PORT of the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class Result(PipelineResult):
    """A running job."""

    def __init__(self, found: dict[str, Any] | None) -> None:
        super().__init__("RUNNING")
        self._job_id = "crawl_b51c64f0-3f1b-4d2b-9a39-0f0a4f0c1f6e"
        self._found = found

    def metrics(self) -> "Result":
        return self

    def query(self) -> dict[str, Any]:
        assert self._found is not None, "the job server does not answer"
        return self._found


def shown(flags: list[str], result: PipelineResult, tally: Tally | None = None) -> list[str]:
    """Returns the lines of status at three times in sequence."""
    options = select.beam_options(flags)
    line = StatusLine(source(options, result, tally), hint(options))
    return [line.text() for _ in range(3)]


PORTABLE = ["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=EXTERNAL"]


@pytest.mark.parametrize("name", [[], ["--job_name=crawl"]])
def test_metrics_of_the_newest_job_of_the_name_are_summed(flink: str, name: list[str]) -> None:
    for line in shown([*PORTABLE, f"--flink_master={flink}", *name], Result(None)):
        assert line.startswith(f"{TEXT}, 0:0")


def test_nothing_is_known_of_a_job_that_has_not_begun(flink: str) -> None:
    assert flink_rest.job_metrics(f"http://{flink}", "missing") == ({}, {})
    assert (
        from_metrics({}, {}).text() == "0 arrived, 0 judged (0 kept, 0 duplicates, 0 rejected), 0 in flight"
    )


@pytest.mark.parametrize(
    ("master", "url"),
    [("", ""), ("[auto]", ""), ("[local]", ""), ("h:8081", "http://h:8081"), ("https://h/", "https://h")],
)
def test_address_of_flink(master: str, url: str) -> None:
    options = select.beam_options(["--runner=FlinkRunner", *([f"--flink_master={master}"] if master else [])])
    assert flink_rest.address(options) == url


@pytest.mark.parametrize("port", [1, None], ids=["no server", "another server"])
def test_flink_that_does_not_answer_is_reported_once_and_fails_nothing(
    port: int | None, flink: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(globals(), "JOBS", {"welcome": 1})
    master = flink if port is None else f"127.0.0.1:{port}"
    assert shown([*PORTABLE, f"--flink_master={master}"], Result(None)) == ["", "", ""]
    assert capsys.readouterr().err == (
        f"dedup: no status is shown: http://{master} (--flink_master) does not answer as Flink's REST interface does\n"
    )


@pytest.mark.parametrize("found", [None, {"counters": [], "gauges": []}], ids=["no answer", "no metrics"])
def test_job_server_without_metrics_is_reported_once(
    found: dict[str, Any] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of Flink reports none before the end of the job."""
    assert shown(PORTABLE, Result(found)) == ["", "", ""]
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("Name Flink's REST address with --flink_master=HOST:8081")


def test_job_server_with_metrics_is_asked() -> None:
    found = {"counters": [counter(metrics.ADMITTED, 9), counter(metrics.INITIAL, 5)], "gauges": []}
    assert shown(PORTABLE, Result(found))[0].startswith("9 arrived, 5 judged (0 kept, 5 duplicates, ")


def test_workers_of_this_process_are_asked(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    for name, count in ((FOUND, 9), (metrics.INITIAL, 5), (metrics.FINAL, 2), (metrics.REJECTED, 1)):
        tally.add(name, count)
    text = "9 arrived, 5 judged (2 kept, 2 duplicates, 1 rejected), 4 in flight"
    assert from_tally(tally).text() == text
    tally.add_times(LATENCY, [1000] * 9 + [4000])
    line = shown(["--runner=PrismRunner"], Result(None), tally)[0]
    assert line.startswith(f"{text}, latency 1.0 s (95% within 4.1 s), 0:0"), (
        "a histogram whose steps are 19 % wide"
    )


def test_in_flight_is_never_negative() -> None:
    """Flink's counters begin at 0 after a restart of the job."""
    assert (
        from_metrics({metrics.INITIAL: 3, metrics.REFERENCES_READ: 3, metrics.IMAGES_FOUND: 3}, {}).in_flight
        == 0
    )


@pytest.mark.parametrize(("runner", "is_shown"), [("PortableRunner", True), ("DataflowRunner", False)])
def test_status_is_shown_for_runners_with_a_job_server(
    runner: str, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dataflow has a dashboard."""
    monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
    found = {"counters": [counter(metrics.INITIAL, 5)], "gauges": []}
    options = select.beam_options([f"--runner={runner}"])
    with showing_status(options, Result(found), None, log_seconds=0.01):
        assert is_shown == ("status" in [thread.name for thread in threading.enumerate()])
        until = time.monotonic() + 60
        while is_shown and stderr.getvalue().count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert stderr.getvalue().startswith("0 arrived, 5 judged" if is_shown else "")
    assert bool(stderr.getvalue()) == is_shown


def test_end_of_the_run_does_not_wait_for_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ended = threading.Event(), threading.Event()

    def hanging(*_: Any) -> Any:
        asked.set()
        ended.wait(60)
        raise OSError

    monkeypatch.setattr("beam_dedup.runners.job_metrics.current", hanging)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    started = time.monotonic()
    with showing_status(select.beam_options(PORTABLE), Result(None), None, log_seconds=0.01):
        assert asked.wait(60)
    ended.set()
    assert time.monotonic() - started < 30


def test_stderr_may_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with showing_status(select.beam_options(PORTABLE), Result(None), None):
        pass
