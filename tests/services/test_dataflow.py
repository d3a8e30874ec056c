"""Tests whole Dataflow jobs: the program of the flex template builds and stages them to a storage emulator; the tests read them back."""

import base64
import bz2
import json
import pickletools
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2

from tests.app import test_labels
from tests.app.cli_runs import ROOT
from tests.services.buckets import Bucket, google_bucket
from tests.services.servers import Service

pytestmark = [pytest.mark.service, pytest.mark.slow]

ParDoPayload = beam_runner_api_pb2.ParDoPayload
Pipeline = beam_runner_api_pb2.Pipeline
PubSubReadPayload = beam_runner_api_pb2.PubSubReadPayload

IMAGE = "example.com/images/dedup:1"
SUBSCRIPTION = "projects/dedup-test/subscriptions/arrivals"
TOPIC = "projects/dedup-test/topics/verdicts"
COMMON = (
    "--near_duplicates=true",
    "--bit_distance=5",
    "--views=centre",
    "--output_dir={b}/unique",
    "--records={b}/records/",
)
JOBS = {
    "batch": ("--dump_dir={b}/in,{b}/more", "--show_duplicates=true", "--counts={b}/counts.json"),
    "stream": (f"--subscription={SUBSCRIPTION}", "--allow={b}", f"--verdict_topic={TOPIC}", "--remember=2h"),
    "watch": ("--dump_dir={b}/in", "--watch=true"),
    "windows": (f"--subscription={SUBSCRIPTION}", "--allow={b}", f"--verdict_topic={TOPIC}", "--window=10m"),
}
# Each pickle in a job is compressed with bz2, then encoded in base64.
PICKLE = re.compile(rb"QlpoOTFBWSZT[A-Za-z0-9+/]+={0,2}")


class Job(NamedTuple):
    """A job as it was staged."""

    bucket: Bucket
    stdout: str
    description: dict[str, Any]  # sent to Dataflow
    pipeline: Any  # a message of type Pipeline
    staged: bytes  # the pipeline, serialised

    @property
    def labels(self) -> set[str]:
        """The labels of all transforms, those inside Beam's composites included."""
        return {one.unique_name for one in self.pipeline.components.transforms.values()}

    def payload(self, label: str) -> bytes:
        """Returns the payload of the transform with this label."""
        [found] = [one for one in self.pipeline.components.transforms.values() if one.unique_name == label]
        return bytes(found.spec.payload)

    def step(self, label: str) -> Any:
        """Returns the DoFn of a step, unpickled as on a worker."""
        step = ParDoPayload.FromString(self.payload(label))
        return pickler.loads(step.do_fn.payload)[0]


def launched(store: Service, parameters: tuple[str, ...]) -> Job:
    """Runs `main.py` with all parameters as --name=value, as the launcher of flex templates does; returns the job."""
    bucket = google_bucket(store)
    arguments = [argument.replace("{b}", bucket.uri) for argument in (*COMMON, *parameters)]
    arguments += [
        "--runner=DataflowRunner",
        "--project=dedup-test",
        "--region=europe-west1",
        "--job_name=dedup",
    ]
    arguments += [f"--temp_location={bucket.uri}/tmp", f"--staging_location={bucket.uri}/staging"]
    arguments += [
        f"--template_location={bucket.uri}/job.json",
        f"--sdk_container_image={IMAGE}",
        "--no_auth=true",
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "templates/dataflow/main.py", *arguments],
        env={**bucket.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    files = bucket.files()
    [staged] = [data for name, data in files.items() if name.endswith("/pipeline.pb")]
    return Job(bucket, done.stdout, json.loads(files["job.json"]), Pipeline.FromString(staged), staged)


@pytest.fixture(scope="module")
def jobs(gcs: Service) -> dict[str, Job]:
    """All jobs by name, launched in parallel: each searches for credentials for 20 seconds, even with --no_auth."""
    with ThreadPoolExecutor(len(JOBS)) as pool:
        return dict(zip(JOBS, pool.map(launched, [gcs] * len(JOBS), JOBS.values()), strict=True))


@pytest.fixture(params=list(JOBS))
def job(request: pytest.FixtureRequest, jobs: dict[str, Job]) -> Job:
    return jobs[request.param]


def pickles(staged: bytes) -> Iterator[bytes]:
    """Yields the pickles in a staged pipeline."""
    for match in PICKLE.finditer(staged):
        text = match[0][: len(match[0]) // 4 * 4]  # the bytes that follow may look like base64 too
        decompressor = bz2.BZ2Decompressor()
        yield decompressor.decompress(base64.b64decode(text))
        assert decompressor.eof


def words(staged: bytes) -> set[str]:
    """Returns all text in the pickles: names, values, and the source files of functions that are pickled by value."""
    return {
        value for one in pickles(staged) for _, value, _ in pickletools.genops(one) if isinstance(value, str)
    }


def test_command_prints_where_the_template_is(job: Job) -> None:
    assert job.stdout == f"dedup: the template is at {job.bucket.uri}/job.json; nothing runs yet\n"


def test_job_type_and_worker_image(jobs: dict[str, Job]) -> None:
    kinds = {name: job.description["type"] for name, job in jobs.items()}
    assert kinds.pop("batch") == "JOB_TYPE_BATCH"
    assert set(kinds.values()) == {"JOB_TYPE_STREAMING"}
    for job in jobs.values():
        [pool] = job.description["environment"]["workerPools"]
        assert pool["workerHarnessContainerImage"] == IMAGE
        environments = job.pipeline.components.environments.values()
        assert {IMAGE in one.payload.decode("utf-8", "replace") for one in environments} == {True}


def test_nothing_is_installed_on_workers_and_no_main_session_is_pickled(job: Job) -> None:
    """Only the pipeline is staged, and the list of packages installed at the launcher, which Dataflow's pages show."""
    staged = {name.rpartition("/")[2] for name in job.bucket.files("staging")}
    assert staged == {"pipeline.pb", "submission_environment_dependencies.txt"}
    assert "__main__" not in words(job.staged)


def test_no_function_of_the_project_is_pickled_by_value(job: Job) -> None:
    """A lambda or a nested function would be in the job with its code, and so with the name of its source file."""
    found = words(job.staged)
    files = {word for word in found if word.endswith(".py")}
    assert files
    assert [file for file in files if "/apache_beam/" not in file] == []
    assert any(word.startswith("transforms.") for word in found), "the search itself works"


def test_options_reach_the_batch(jobs: dict[str, Job]) -> None:
    job = jobs["batch"]
    uri = job.bucket.uri
    fingerprint = job.step("Deduplicate/Fingerprint/Read/ParDo(_FingerprintFn)")
    assert fingerprint.settings.recipe.views == "centre"
    carried = b"".join(pickles(job.staged))
    for name in ("in", "more", "unique", "records/", "counts.json"):
        assert f"{uri}/{name}".encode() in carried, name


def test_options_reach_the_stream(jobs: dict[str, Job]) -> None:
    job = jobs["stream"]
    band = job.step("Judge/Judge/Band/Take/ParDo(_StepFn)")
    assert band.streaming.plan.thresholds.k == 5
    assert band.streaming.remember_micros == 2 * 3600 * 10**6
    assert band.streaming.origin_micros == 0, "after an update all arrivals would count as forgotten long ago"
    assert job.step("Judge/Fingerprint/Read/ParDo(_FingerprintFn)").settings.recipe.views == "centre"
    assert job.step("Publish/Publish").topic == TOPIC
    assert job.step("Record/Record").folders.records == f"{job.bucket.uri}/records/"


@pytest.mark.parametrize("name", ["stream", "windows"])
def test_subscription_is_read_by_dataflow_itself(jobs: dict[str, Job], name: str) -> None:
    job = jobs[name]
    read = PubSubReadPayload.FromString(job.payload("Read/Read"))
    assert (read.subscription, read.with_attributes) == (SUBSCRIPTION, True)
    assert "SubscriptionSource" not in words(job.staged)
    impulses = [
        one.unique_name
        for one in job.pipeline.components.transforms.values()
        if one.spec.urn == "beam:transform:impulse:v1"
    ]
    assert [label for label in impulses if label.startswith("Read/")] == []


def test_labels_are_the_committed_ones(jobs: dict[str, Job]) -> None:
    """An update finds the state of a running job by them. Labels inside Beam's composites are not compared."""
    for name, job in jobs.items():
        kind = "batch: " if name == "batch" else "stream: "
        committed = {
            line.removeprefix(kind)
            for line in test_labels.LABELS.read_text().splitlines()
            if line.startswith(kind)
        }
        ours = {label for label in job.labels if all(part.isalnum() for part in label.split("/"))}
        known = {label for label in ours if label in committed}
        beams = {label for label in ours - known if not any(label.startswith(f"{one}/") for one in committed)}
        assert beams == set()
        assert len(known) > 20
