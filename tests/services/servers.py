"""Starts the services that tests use, each in a process of its own, and describes what clients need to reach them.

Each service is a context manager. It raises `MissingError` if its program is not installed.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.services.processes import HOST, answers, free_port, running

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".ci/tools"  # where `make services` installs programs
FLINK = TOOLS / "flink"
_PRISM_HINT = "run `make services` (it needs Go)"
_FLINK_CONFIGURATION = """\
state.checkpoints.dir: {folder}/checkpoints
restart-strategy.type: exponential-delay
restart-strategy.exponential-delay.initial-backoff: 100 ms
restart-strategy.exponential-delay.max-backoff: 1 s
restart-strategy.exponential-delay.attempts-before-reset-backoff: 5
"""


class MissingError(Exception):
    """A program is not installed. The message says how to install it."""


class Service(NamedTuple):
    """A running server."""

    url: str
    environment: dict[str, str]  # environment variables for clients
    flags: tuple[str, ...]  # options of `dedup`
    log: Path


class Topic(NamedTuple):
    """The topic to which the storage server publishes notifications of new objects."""

    pubsub: Service
    project: str
    name: str


@contextlib.contextmanager
def gcs(notify: Topic | None = None) -> Iterator[Service]:
    """Runs an empty in-memory server for gs://. It publishes each new object to the topic `notify`, as Google does."""
    program = _program("fake-gcs-server", "run `make services` (it needs Go)")
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [program, "-scheme", "http", "-host", HOST, "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"{HOST}:{port}", "-external-url", url]
    if notify:
        command += ["-event.pubsub-project-id", notify.project, "-event.pubsub-topic", notify.name]
        command += ["-event.list", "finalize"]
    environment = notify.pubsub.environment if notify else {}
    with running(command, lambda: _answers_http(f"{url}/storage/v1/b"), environment) as log:
        yield Service(url, {"STORAGE_EMULATOR_HOST": url}, ("--no_auth",), log)


@contextlib.contextmanager
def s3() -> Iterator[Service]:
    """Runs an empty in-memory server for s3://."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        raise MissingError("the S3 server is missing: pip install 'moto[s3,server]'")
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    flags = (
        f"--s3_endpoint_url={url}",
        "--s3_access_key_id=any",
        "--s3_secret_access_key=any",
        "--s3_region_name=us-east-1",
        "--s3_disable_ssl",
    )
    with running(command, lambda: _answers_http(f"{url}/moto-api/data.json")) as log:
        yield Service(url, {}, flags, log)


@contextlib.contextmanager
def pubsub(project: str = "dedup-test") -> Iterator[Service]:
    """Runs a Pub/Sub emulator without topics. Names have at least 6 letters (projects) or 3 letters (topics)."""
    hint = "install the Google Cloud CLI, and its component pubsub-emulator (Debian: google-cloud-cli-pubsub-emulator)"
    program = _program("gcloud", hint)
    _check_component(program, hint)
    port = free_port()
    command = [program, "beta", "emulators", "pubsub", "start", f"--project={project}"]
    command += [f"--host-port={HOST}:{port}", "--quiet"]
    with running(command, lambda: answers(port)) as log:
        address = f"{HOST}:{port}"
        environment = {"PUBSUB_EMULATOR_HOST": address, "PUBSUB_PROJECT_ID": project}
        yield Service(f"http://{address}", environment, (), log)


@contextlib.contextmanager
def flink_jars() -> Iterator[Path]:
    """Yields the directory with the jar files of Beam's job server and Flink."""
    complete, wanted = FLINK / ".complete", ROOT / "templates/flink/local/job-server.xml"
    is_complete = complete.exists() and complete.read_bytes() == wanted.read_bytes()
    if not is_complete or not shutil.which("java"):
        raise MissingError("Flink is missing: run `make services` (it needs Maven and Java)")
    yield FLINK


@contextlib.contextmanager
def flink(environment: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Runs Beam's job server with an embedded Flink. The workers run in the process that submits the pipeline.

    environment: of the job server, in addition to that of this process.
    """
    port = free_port()
    with flink_jars() as jars, tempfile.TemporaryDirectory(prefix="dedup-flink-") as folder:
        configuration = _FLINK_CONFIGURATION.format(folder=Path(folder).as_uri())
        (Path(folder) / "flink-conf.yaml").write_text(configuration)
        command = [str(ROOT / "templates/flink/local/job-server"), str(jars), str(port), folder]
        flags = ("--runner=PortableRunner", f"--job_endpoint={HOST}:{port}", "--environment_type=LOOPBACK")
        with running(command, lambda: answers(port), environment) as log:
            yield Service(f"{HOST}:{port}", {}, flags, log)


@contextlib.contextmanager
def prism() -> Iterator[Service]:
    """Runs Prism, Beam's portable runner in Go. The workers run in the process that submits the pipeline."""
    program = _program("prism", _PRISM_HINT)
    port, web_port = free_port(), free_port()
    command = [program, f"--job_port={port}", f"--web_port={web_port}", "--serve_http=false"]
    flags = ("--runner=PrismRunner", f"--job_endpoint={HOST}:{port}", "--environment_type=LOOPBACK")
    with running(command, lambda: answers(port)) as log:
        yield Service(f"{HOST}:{port}", {}, flags, log)


@contextlib.contextmanager
def prism_program() -> Iterator[str]:
    """Yields the path of Prism's program, for runs that start it themselves."""
    yield _program("prism", _PRISM_HINT)


def _program(name: str, hint: str) -> str:
    found = shutil.which(name, path=os.pathsep.join((str(TOOLS), os.environ.get("PATH", os.defpath))))
    if not found:
        raise MissingError(f"{name} is missing: {hint}")
    return found


def _check_component(gcloud: str, hint: str) -> None:
    root = Path(gcloud).resolve().parents[1]
    if not (root / "platform/pubsub-emulator").is_dir():
        raise MissingError(f"gcloud has no Pub/Sub emulator: {hint}")


def _answers_http(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        json.load(answer)
        return True
    return False
