"""The resources for Kubernetes are what their APIs take, fit each other, and ask `dedup` for what it knows."""

import copy
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from beam_dedup.options import checks, parser
from beam_dedup.runners import flink, select
from tests.app.cli_runs import ROOT
from tests.conftest import CI_VARIABLE
from tests.services.servers import TOOLS
from tests.test_packaging import PINS

FOLDER = ROOT / "templates/flink/kubernetes"
PAGE = (ROOT / "docs/guides/flink.md").read_text("utf-8")
KUBERNETES = "1.37"
OPERATOR = TOOLS / "flink-kubernetes-operator-api.jar"
RESOURCES = {
    (one["kind"], one["metadata"]["name"]): one
    for path in sorted(FOLDER.glob("*.yaml"))
    for one in yaml.safe_load_all(path.read_text("utf-8"))
}
CLUSTER = RESOURCES["FlinkDeployment", "dedup"]
JOB_SERVER = RESOURCES["Deployment", "dedup-job-server"]
STREAM = RESOURCES["Job", "dedup-stream"]
FLINK = "flink-main-container"  # the operator's name for it


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The specs of all pods, by what makes them."""
    yield "job server", JOB_SERVER["spec"]["template"]["spec"]
    yield "stream", STREAM["spec"]["template"]["spec"]
    for part in ("jobManager", "taskManager"):
        yield part, CLUSTER["spec"][part]["podTemplate"]["spec"]


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in pod["containers"] if one["name"] == name]
    return dict(found)


PODS = dict(pods())
WORKERS = container(PODS["taskManager"], "beam-workers")
SUBMITTING = container(PODS["stream"], "dedup")
SERVING = container(PODS["job server"], "job-server")
FLAGS = dict(flag.removeprefix("--").partition("=")[::2] for flag in SUBMITTING["args"])


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Of FlinkDeployment, from the operator itself; no field that it does not name is let through."""
    if not OPERATOR.exists():
        missing = "the schema of the Flink operator is missing: run `make services` (it needs Maven)"
        if os.environ.get(CI_VARIABLE):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with zipfile.ZipFile(OPERATOR) as jar:
        definition = yaml.safe_load(jar.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"))
    [version] = [one for one in definition["spec"]["versions"] if one["name"] == "v1beta1"]
    named: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    for field in ("apiVersion", "kind", "metadata"):
        named["properties"][field] = {}
    _close(named)
    return named


def _close(schema: dict[str, Any]) -> None:
    for inner in (
        *schema.get("properties", {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ):
        if isinstance(inner, dict):
            _close(inner)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)


class TestSchemas:
    def test_the_cluster_is_one_that_the_operator_takes(self, schema: dict[str, Any]) -> None:
        assert CLUSTER["apiVersion"] == "flink.apache.org/v1beta1"
        jsonschema.validate(CLUSTER, schema)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("spec", "taskManger"), {}),
            (("spec", "flinkVersion"), "v9_9"),
            (("spec", "flinkConfiguration", "taskmanager.numberOfTaskSlots"), 2),
            (("spec", "taskManager", "podTemplate", "spec", "containers", 1, "comand"), ["x"]),
        ],
    )
    def test_a_slip_would_be_found(
        self, schema: dict[str, Any], path: tuple[Any, ...], value: object
    ) -> None:
        changed: Any = copy.deepcopy(CLUSTER)
        *way, last = path
        inner = changed
        for step in way:
            inner = inner[step]
        inner[last] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, schema)

    @pytest.mark.parametrize(
        "name", [name for name in RESOURCES if name[0] != "FlinkDeployment"], ids="-".join
    )
    def test_the_others_are_ones_that_kubernetes_takes(self, name: tuple[str, str]) -> None:
        kubernetes_validate.validate(RESOURCES[name], KUBERNETES, strict=True)


class TestFit:
    def test_the_job_finds_the_job_server_and_that_the_cluster(self) -> None:
        labels = JOB_SERVER["spec"]["template"]["metadata"]["labels"]
        assert JOB_SERVER["spec"]["selector"]["matchLabels"].items() <= labels.items()
        service = RESOURCES["Service", "dedup-job-server"]
        ports = {one["name"]: one["port"] for one in service["spec"]["ports"]}
        listening = {one["name"]: one["containerPort"] for one in SERVING["ports"]}
        assert ports == listening
        assert service["spec"]["selector"].items() <= labels.items()
        told = dict(flag.removeprefix("--").split("=") for flag in SERVING["args"])
        assert {"jobs": int(told["job-port"]), "artifacts": int(told["artifact-port"])} == listening
        name = service["metadata"]["name"]
        assert FLAGS["job_endpoint"] == f"{name}:{ports['jobs']}"
        assert FLAGS["artifact_endpoint"].split()[0] == f"{name}:{ports['artifacts']}"
        assert told["flink-master"] == f"{CLUSTER['metadata']['name']}-rest:8081", (
            "the operator's name for it"
        )

    def test_only_what_belongs_to_it_reaches_any_part_and_the_operator_flinks_interface(self) -> None:
        policy = RESOURCES["NetworkPolicy", "dedup"]["spec"]
        ours = policy["podSelector"]
        for one in (
            STREAM["spec"]["template"],
            CLUSTER["spec"]["podTemplate"],
            JOB_SERVER["spec"]["template"],
        ):
            assert ours["matchLabels"].items() <= one["metadata"]["labels"].items()
        inside, operator = policy["ingress"]
        assert inside == {"from": [{"podSelector": ours}]}
        assert operator["ports"] == [{"port": 8081}]

    def test_task_managers_find_their_workers(self) -> None:
        """The entry point of the image listens on this port, and on no other."""
        [port] = WORKERS["ports"]
        assert FLAGS["environment_type"] == "EXTERNAL"
        assert FLAGS["environment_config"] == f"localhost:{port['containerPort']}" == "localhost:50000"
        assert WORKERS["args"] == ["--worker_pool"]
        assert "command" not in WORKERS, "the entry point is that of the image"
        assert FLAGS["sdk_worker_parallelism"] == "1", "more would hold back messages from each other"

    def test_workers_may_write_where_they_do(self) -> None:
        """`boot` writes options where it is started, libraries to the folder for temporary files."""
        dockerfile = (ROOT / "templates/image/Dockerfile").read_text()
        [home] = re.findall(r"^WORKDIR (\S+)", dockerfile, re.MULTILINE)
        [user] = re.findall(r"^USER (\d+)", dockerfile, re.MULTILINE)
        assert {one["mountPath"] for one in WORKERS["volumeMounts"]} == {home, "/tmp"}
        assert WORKERS["securityContext"]["runAsUser"] == int(user)

    def test_versions_are_one_fact(self) -> None:
        spec = CLUSTER["spec"]
        match = re.fullmatch(r"flink:(\d+\.\d+)(\.\d+)-scala_2\.12-java11", spec["image"])
        assert match
        assert spec["flinkVersion"] == f"v{match[1].replace('.', '_')}"
        assert SERVING["image"] == f"apache/beam_flink{match[1]}_job_server:{PINS['apache-beam']}"
        [plugin] = container(spec["podTemplate"]["spec"], FLINK)["env"]
        assert plugin["value"] == f"flink-gs-fs-hadoop-{match[1]}{match[2]}.jar"
        assert match[1] in select.beam_help(), "Beam knows this Flink"


class TestCare:
    @pytest.mark.parametrize("name", PODS)
    def test_nobody_is_root_or_becomes_it(self, name: str) -> None:
        shared = CLUSTER["spec"]["podTemplate"]["spec"]
        own = PODS[name].get("securityContext", shared["securityContext"])
        assert own["runAsNonRoot"]
        for one in PODS[name]["containers"]:
            context = one.get("securityContext") or container(shared, FLINK)["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context.get("runAsUser", own.get("runAsUser", 0)) > 0

    @pytest.mark.parametrize("name", PODS)
    def test_what_stays_is_looked_after_and_has_its_share(self, name: str) -> None:
        for one in PODS[name]["containers"]:
            if name != "stream":
                assert one["livenessProbe"]["failureThreshold"] > 1, one["name"]
            if one["name"] != FLINK:  # whose share the operator writes
                assert one["resources"]["requests"]["memory"] == one["resources"]["limits"]["memory"]
                assert "cpu" in one["resources"]["requests"]
        for part in ("jobManager", "taskManager"):
            assert CLUSTER["spec"][part]["resource"].keys() >= {"cpu", "memory"}

    def test_state_is_kept_outside_the_pods(self) -> None:
        configuration = CLUSTER["spec"]["flinkConfiguration"]
        for name in ("state.checkpoints.dir", "state.savepoints.dir", "high-availability.storageDir"):
            assert configuration[name].startswith("gs://")
        assert all(isinstance(value, str) for value in configuration.values())

    def test_a_stream_is_never_submitted_twice(self) -> None:
        assert STREAM["spec"]["backoffLimit"] == 0
        assert PODS["stream"]["restartPolicy"] == "Never"


def test_dedup_takes_the_flags_and_nothing_is_missing_for_flink() -> None:
    assert SUBMITTING["command"] == ["dedup"]
    given, rest = parser.parse(SUBMITTING["args"])
    config = checks.configure(given)
    assert config.stream
    assert config.stream.subscription
    assert config.near
    assert flink.complete(select.beam_options(rest)) == []


def test_the_page_says_how_to_fill_in_what_is_yours(tmp_path: Path) -> None:
    """With its command; what is ours has no place in what is applied."""
    assert {WORKERS["image"], SUBMITTING["image"]} == {"IMAGE"}
    [command] = re.findall(r"^    (sed -i .*)", PAGE, re.MULTILINE)
    for path in FOLDER.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, timeout=20)
    files = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert not re.search(r"my-|IMAGE(?! is)", "".join(files.values()))
    assert all(list(yaml.safe_load_all(text)) for text in files.values())


def test_the_batch_of_the_page_is_taken_too() -> None:
    [line] = re.findall(r"^    (--near_duplicates --dump_dir.*)", PAGE, re.MULTILINE)
    engines = [
        flag for flag in SUBMITTING["args"] if flag.startswith(("--runner", "--environment", "--parallelism"))
    ]
    given, rest = parser.parse([*line.split(), *engines])
    config = checks.configure(given)
    assert config.stream is None
    assert not config.output_json
    assert select.beam_options(rest)
