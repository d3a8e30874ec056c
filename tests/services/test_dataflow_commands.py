"""Runs the commands of templates/dataflow/README.md with the real gcloud against a fake Dataflow service that records requests."""

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from beam_dedup.dataflow import launcher
from beam_dedup.options import checks, parser
from tests.app.cli_runs import ROOT
from tests.app.test_dataflow_template import METADATA, fits
from tests.conftest import CI_VARIABLE

pytestmark = pytest.mark.service

PAGE = (ROOT / "docs/guides/dataflow.md").read_text("utf-8")
README = (ROOT / "templates/dataflow/README.md").read_text("utf-8")


def blocks(page: str) -> list[str]:
    """Returns the indented code blocks of a page, without their indentation."""
    found = re.findall(r"(?:^ {4}.*\n?)+", page, re.MULTILINE)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in found]


def commands(page: str) -> list[str]:
    """Returns the `gcloud dataflow` commands of a page, each with its continuation lines."""
    pattern = r"^(?:JOB=\$\()?gcloud dataflow (?:.*\\\n)*.*"
    return [one for block in blocks(page) for one in re.findall(pattern, block, re.MULTILINE)]


[SETTINGS] = [block.partition("\n\n")[0] for block in blocks(PAGE) if block.startswith("PROJECT=")]
COMMANDS = commands(PAGE)
JOB = {
    "id": "2026-a-job",
    "name": "dedup-stream",
    "type": "JOB_TYPE_STREAMING",
    "currentState": "JOB_STATE_RUNNING",
    "createTime": "2026-01-31T12:00:00Z",
    "currentStateTime": "2026-01-31T12:00:00Z",
}


class Request(NamedTuple):
    """A request to the fake service."""

    method: str
    path: str
    body: dict[str, Any]


class _FakeService(http.server.BaseHTTPRequestHandler):
    """Records each request and answers with `JOB`."""

    requests: list[Request]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.requests.append(Request(self.command, self.path, json.loads(body or b"{}")))
        answer = json.dumps({**JOB, "job": JOB, "jobs": [JOB]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Dataflow:
    """Runs commands against the fake service, and holds their requests."""

    def __init__(self, port: int, folder: Path, requests: list[Request]) -> None:
        self.requests = requests
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CLOUDSDK_CONFIG": str(folder),
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_CORE_PROJECT": "my-project",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_DATAFLOW": f"http://127.0.0.1:{port}/",
        }

    def run(self, command: str) -> str:
        """Runs a command in a shell, after the settings of the page; returns its standard output."""
        done = subprocess.run(
            ["bash", "-euc", f"{SETTINGS}\nJOB={JOB['id']}\n{command}"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def dataflow(tmp_path: Path) -> Iterator[Dataflow]:
    if not shutil.which("gcloud"):
        missing = "gcloud is missing: install the Google Cloud CLI"
        if os.environ.get(CI_VARIABLE):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    requests: list[Request] = []
    handler = type("Handler", (_FakeService,), {"requests": requests})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Dataflow(server.server_port, tmp_path, requests)
        server.shutdown()
        thread.join()


def the_command(words: str) -> str:
    """Returns the only command that contains these words."""
    [found] = [command for command in COMMANDS if words in command]
    return found


def test_pages_have_the_commands_that_are_tested() -> None:
    kinds = [re.findall(r"dataflow (?:flex-template|jobs) (\w+)", command)[0] for command in COMMANDS]
    assert kinds == ["build", "run", "run", "run", "run", "list", "drain", "cancel"]
    assert len(commands(README)) == 2


@pytest.mark.parametrize("page", [PAGE, README], ids=["page", "README"])
def test_build_makes_a_template_with_the_metadata(dataflow: Dataflow, page: str) -> None:
    """With --print-only gcloud reads and checks the metadata, and prints the file instead of uploading it."""
    [command] = [one for one in commands(page) if "flex-template build" in one]
    printed = yaml.safe_load(dataflow.run(f"{command} --print-only"))
    template = json.loads(printed)
    assert template["image"] == "europe-west1-docker.pkg.dev/my-project/dedup/dedup-dataflow"
    assert template["sdkInfo"] == {"language": "PYTHON"}
    assert [one["name"] for one in template["metadata"]["parameters"]] == [
        one["name"] for one in METADATA["parameters"]
    ]
    for one, ours in zip(template["metadata"]["parameters"], METADATA["parameters"], strict=True):
        assert {name: ours[name] for name in one if name in ours} == one


@pytest.mark.parametrize(
    "command", [one for one in (*COMMANDS, *commands(README)) if "flex-template run" in one]
)
def test_launch_sends_parameters_that_dedup_accepts(dataflow: Dataflow, command: str) -> None:
    dataflow.run(command)
    [request] = dataflow.requests
    assert (request.method, request.path.partition("?")[0]) == (
        "POST",
        "/v1b3/projects/my-project/locations/europe-west1/flexTemplates:launch",
    )
    launch = request.body["launchParameter"]
    assert launch["containerSpecGcsPath"] == "gs://my-bucket/templates/dedup.json"
    assert launch.get("update", False) == ("--update" in command)
    assert launch.get("transformNameMappings") == (
        {"Record/Old": "Record/New"} if "--transform-name-mappings" in command else None
    )
    parameters = launch["parameters"]
    assert [name for name, value in parameters.items() if not fits(name, value)] == []
    flags = launcher.command_line([f"--{name}={value}" for name, value in parameters.items()])
    config = checks.configure(parser.parse(flags)[0])
    assert bool(config.stream) == (launch["jobName"] == "dedup-stream")
    assert config.near
    if not config.stream:
        assert config.inputs in (("gs://crawl-a", "gs://crawl-b"), ("gs://bucket/crawl",))


def test_update_has_the_same_parameters_as_the_launch() -> None:
    launch, update = (one for one in COMMANDS if "remember=24h" in one)
    assert update.replace(" --update", "") == launch


def test_job_is_listed_drained_and_cancelled(dataflow: Dataflow) -> None:
    assert dataflow.run(f"{the_command('jobs list')}\necho $JOB") == f"{JOB['id']}\n"
    for word, state in (("drain", "JOB_STATE_DRAINED"), ("cancel", "JOB_STATE_CANCELLED")):
        dataflow.run(the_command(f"jobs {word}"))
        request = dataflow.requests[-1]
        assert request.path.partition("?")[0].endswith(f"/locations/europe-west1/jobs/{JOB['id']}")
        assert (request.method, request.body["requestedState"]) == ("PUT", state)
