"""Whole jobs for Dataflow, built and staged into a storage server by the program of the flex template, and read back from there."""

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
    "stream": (f"--subscription={SUBSCRIPTION}", f"--verdict_topic={TOPIC}", "--remember=2h"),
    "watch": ("--dump_dir={b}/in", "--watch=true"),
    "windows": (f"--subscription={SUBSCRIPTION}", f"--verdict_topic={TOPIC}", "--window=10m"),
}
# Each pickle in a job is packed by bz2, then written in base64.
PICKLE = re.compile(rb"QlpoOTFBWSZT[A-Za-z0-9+/]+={0,2}")


class Job(NamedTuple):
    bucket: Bucket
    said: str
    description: dict[str, Any]  # what Dataflow is sent
    pipeline: Any
    packed: bytes  # the pipeline as it was staged

    @property
    def labels(self) -> set[str]:
        return {one.unique_name for one in self.pipeline.components.transforms.values()}

    def payload(self, label: str) -> bytes:
        [found] = [one for one in self.pipeline.components.transforms.values() if one.unique_name == label]
        return bytes(found.spec.payload)

    def step(self, label: str) -> Any:
        """The DoFn of a step, as a worker gets it."""
        step = ParDoPayload.FromString(self.payload(label))
        return pickler.loads(step.do_fn.payload)[0]


def launched(store: Service, parameters: tuple[str, ...]) -> Job:
    """What the launcher of flex templates does: it runs `main.py` with all parameters as --name=value."""
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
    [packed] = [data for name, data in files.items() if name.endswith("/pipeline.pb")]
    return Job(bucket, done.stdout, json.loads(files["job.json"]), Pipeline.FromString(packed), packed)


@pytest.fixture(scope="module")
def jobs(gcs: Service) -> dict[str, Job]:
    """Side by side: each looks for credentials for twenty seconds, also when it is told that there are none."""
    with ThreadPoolExecutor(len(JOBS)) as pool:
        return dict(zip(JOBS, pool.map(launched, [gcs] * len(JOBS), JOBS.values()), strict=True))


@pytest.fixture(params=list(JOBS))
def job(request: pytest.FixtureRequest, jobs: dict[str, Job]) -> Job:
    return jobs[request.param]


def pickles(packed: bytes) -> Iterator[bytes]:
    for match in PICKLE.finditer(packed):
        text = match[0][: len(match[0]) // 4 * 4]  # what follows may look like more of it
        unpacking = bz2.BZ2Decompressor()
        yield unpacking.decompress(base64.b64decode(text))
        assert unpacking.eof


def words(packed: bytes) -> set[str]:
    """All text in the pickles of a job: names, values, and the files of functions that travel by value."""
    return {
        value for one in pickles(packed) for _, value, _ in pickletools.genops(one) if isinstance(value, str)
    }


def test_the_command_says_where_the_template_is(job: Job) -> None:
    assert job.said == f"dedup: the template is at {job.bucket.uri}/job.json; nothing runs yet\n"


def test_it_is_a_job_of_its_kind_and_workers_run_our_image(jobs: dict[str, Job]) -> None:
    kinds = {name: job.description["type"] for name, job in jobs.items()}
    assert kinds.pop("batch") == "JOB_TYPE_BATCH"
    assert set(kinds.values()) == {"JOB_TYPE_STREAMING"}
    for job in jobs.values():
        [pool] = job.description["environment"]["workerPools"]
        assert pool["workerHarnessContainerImage"] == IMAGE
        environments = job.pipeline.components.environments.values()
        assert {IMAGE in one.payload.decode("utf-8", "replace") for one in environments} == {True}


def test_nothing_is_installed_on_workers_and_no_main_session_is_pickled(job: Job) -> None:
    """All that is staged is the pipeline, and a list of what the launcher had installed, for Dataflow's pages."""
    staged = {name.rpartition("/")[2] for name in job.bucket.files("staging")}
    assert staged == {"pipeline.pb", "submission_environment_dependencies.txt"}
    assert "__main__" not in words(job.packed)


def test_no_function_of_ours_travels_by_value(job: Job) -> None:
    """A lambda, or what is defined within a function, would be in the job with its code, and so with the name of its file."""
    found = words(job.packed)
    files = {word for word in found if word.endswith(".py")}
    assert files
    assert [file for file in files if "/apache_beam/" not in file] == []
    assert any(word.startswith("transforms.") for word in found), "the search itself works"


def test_options_reach_the_batch(jobs: dict[str, Job]) -> None:
    job = jobs["batch"]
    uri = job.bucket.uri
    fingerprint = job.step("Deduplicate/Fingerprint/Read/ParDo(_FingerprintFn)")
    assert fingerprint.settings.recipe.views == "centre"
    carried = b"".join(pickles(job.packed))
    for name in ("in", "more", "unique", "records/", "counts.json"):
        assert f"{uri}/{name}".encode() in carried, name


def test_options_reach_the_stream(jobs: dict[str, Job]) -> None:
    job = jobs["stream"]
    band = job.step("Judge/Judge/Band/Take/ParDo(_StepFn)")
    assert band.streaming.plan.thresholds.k == 5
    assert band.streaming.remember_micros == 2 * 3600 * 10**6
    assert band.streaming.origin_micros == 0, "an update would take all that arrives for long forgotten"
    assert job.step("Judge/Fingerprint/Read/ParDo(_FingerprintFn)").settings.recipe.views == "centre"
    assert job.step("Publish/Publish").topic == TOPIC
    assert job.step("Record/Record").folders.records == f"{job.bucket.uri}/records/"


@pytest.mark.parametrize("name", ["stream", "windows"])
def test_the_subscription_is_read_by_dataflow_itself(jobs: dict[str, Job], name: str) -> None:
    job = jobs[name]
    read = PubSubReadPayload.FromString(job.payload("Read/Read"))
    assert (read.subscription, read.with_attributes) == (SUBSCRIPTION, True)
    assert "SubscriptionSource" not in words(job.packed)
    impulses = [
        one.unique_name
        for one in job.pipeline.components.transforms.values()
        if one.spec.urn == "beam:transform:impulse:v1"
    ]
    assert [label for label in impulses if label.startswith("Read/")] == []


def test_its_labels_are_the_committed_ones(jobs: dict[str, Job]) -> None:
    """So an update finds the state of a running job; what is below a label of Beam's is Beam's."""
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
