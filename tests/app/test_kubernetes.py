"""Checks the resources for Kubernetes: against their APIs, against each other, and against the options of `dedup`."""

import copy
import ipaddress
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
from tests.waiting import SECONDS

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
RESTART, RETAINED = "restart-strategy", "RETAIN_ON_CANCELLATION"
FLINK = "flink-main-container"  # named by the operator


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the spec of each pod with the name of the part that creates it."""
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
    """The schema of FlinkDeployment, from the operator's jar, closed so that unknown fields are errors."""
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
    def test_cluster_fits_the_schema_of_the_operator(self, schema: dict[str, Any]) -> None:
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
    def test_schema_finds_mistakes(
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
    def test_other_resources_fit_the_schemas_of_kubernetes(self, name: tuple[str, str]) -> None:
        kubernetes_validate.validate(RESOURCES[name], KUBERNETES, strict=True)


class TestFit:
    def test_names_and_ports_of_job_job_server_and_cluster_match(self) -> None:
        labels = JOB_SERVER["spec"]["template"]["metadata"]["labels"]
        assert JOB_SERVER["spec"]["selector"]["matchLabels"].items() <= labels.items()
        service = RESOURCES["Service", "dedup-job-server"]
        ports = {one["name"]: one["port"] for one in service["spec"]["ports"]}
        listening = {one["name"]: one["containerPort"] for one in SERVING["ports"]}
        assert ports == listening
        assert service["spec"]["selector"].items() <= labels.items()
        flags = dict(flag.removeprefix("--").split("=") for flag in SERVING["args"])
        assert {"jobs": int(flags["job-port"]), "artifacts": int(flags["artifact-port"])} == listening
        name = service["metadata"]["name"]
        assert FLAGS["job_endpoint"] == f"{name}:{ports['jobs']}"
        assert FLAGS["artifact_endpoint"].split()[0] == f"{name}:{ports['artifacts']}"
        assert flags["flink-master"] == f"{CLUSTER['metadata']['name']}-rest:8081", (
            "the operator names the service so"
        )

    def test_network_policy_admits_only_own_pods_the_operator_and_prometheus(self) -> None:
        policy = RESOURCES["NetworkPolicy", "dedup"]["spec"]
        ours = policy["podSelector"]
        for one in (
            STREAM["spec"]["template"],
            CLUSTER["spec"]["podTemplate"],
            JOB_SERVER["spec"]["template"],
        ):
            assert ours["matchLabels"].items() <= one["metadata"]["labels"].items()
        inside, operator, prometheus = policy["ingress"]
        assert inside == {"from": [{"podSelector": ours}]}
        assert operator["ports"] == [{"port": 8081}]
        port = CLUSTER["spec"]["flinkConfiguration"]["metrics.reporter.prometheus.port"]
        assert prometheus["ports"] == [{"port": int(port)}]
        assert CLUSTER["spec"]["podTemplate"]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": port,
        }

    def test_network_policy_lets_pods_reach_nothing_but_stores_and_what_they_need(self) -> None:
        """Not the server of the machine's own credentials, except for the pod's account, nor other services of the cluster."""
        policy = RESOURCES["NetworkPolicy", "dedup"]["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        inside, names, outside, credentials = policy["egress"]
        assert inside == {"to": [{"podSelector": policy["podSelector"]}]}
        assert {one["port"] for one in names["ports"]} == {53}
        assert [one["port"] for one in outside["ports"]] == [443, 6443]
        [block] = outside["to"]
        local = ipaddress.IPv4Network("169.254.0.0/16")
        assert block["ipBlock"]["except"] == [str(local)]
        assert all(
            ipaddress.IPv4Network(one["ipBlock"]["cidr"]).subnet_of(local) for one in credentials["to"]
        )

    def test_flags_name_the_port_of_the_workers(self) -> None:
        """The entry point of the image always listens on port 50000."""
        [port] = WORKERS["ports"]
        assert FLAGS["environment_type"] == "EXTERNAL"
        assert FLAGS["environment_config"] == f"localhost:{port['containerPort']}" == "localhost:50000"
        assert WORKERS["args"] == ["--worker_pool"]
        assert "command" not in WORKERS, "would replace the entry point of the image"
        assert FLAGS["sdk_worker_parallelism"] == "1", "several workers would delay each other's messages"

    def test_workers_can_write_to_their_directories(self) -> None:
        """`boot` writes options to its working directory, and libraries write to the directory for temporary files."""
        dockerfile = (ROOT / "templates/image/Dockerfile").read_text()
        [home] = re.findall(r"^WORKDIR (\S+)", dockerfile, re.MULTILINE)
        [user] = re.findall(r"^USER (\d+)", dockerfile, re.MULTILINE)
        assert {one["mountPath"] for one in WORKERS["volumeMounts"]} == {home, "/tmp"}
        assert WORKERS["securityContext"]["runAsUser"] == int(user)

    def test_versions_match(self) -> None:
        spec = CLUSTER["spec"]
        match = re.fullmatch(r"flink:(\d+\.\d+)(\.\d+)-scala_2\.12-java11", spec["image"])
        assert match
        assert spec["flinkVersion"] == f"v{match[1].replace('.', '_')}"
        assert SERVING["image"] == f"apache/beam_flink{match[1]}_job_server:{PINS['apache-beam']}"
        [plugin] = container(spec["podTemplate"]["spec"], FLINK)["env"]
        assert plugin["value"] == f"flink-gs-fs-hadoop-{match[1]}{match[2]}.jar"
        assert match[1] in select.beam_help(), "Beam does not know this version of Flink"


class TestOperation:
    @pytest.mark.parametrize("name", PODS)
    def test_no_container_is_or_becomes_root(self, name: str) -> None:
        shared = CLUSTER["spec"]["podTemplate"]["spec"]
        own = PODS[name].get("securityContext", shared["securityContext"])
        assert own["runAsNonRoot"]
        for one in PODS[name]["containers"]:
            context = one.get("securityContext") or container(shared, FLINK)["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context.get("runAsUser", own.get("runAsUser", 0)) > 0

    @pytest.mark.parametrize("name", PODS)
    def test_services_have_probes_and_resources(self, name: str) -> None:
        for one in PODS[name]["containers"]:
            if name != "stream":
                assert one["livenessProbe"]["failureThreshold"] > 1, one["name"]
            if one["name"] != FLINK:  # the operator sets its resources
                assert one["resources"]["requests"]["memory"] == one["resources"]["limits"]["memory"]
                assert "cpu" in one["resources"]["requests"]
        for part in ("jobManager", "taskManager"):
            assert CLUSTER["spec"][part]["resource"].keys() >= {"cpu", "memory"}

    def test_state_is_stored_outside_the_pods(self) -> None:
        configuration = CLUSTER["spec"]["flinkConfiguration"]
        for name in ("state.checkpoints.dir", "state.savepoints.dir", "high-availability.storageDir"):
            assert configuration[name].startswith("gs://")
        assert all(isinstance(value, str) for value in configuration.values())

    def test_jobs_survive_long_failures_and_leave_their_last_checkpoint(self) -> None:
        """The local scripts do the same, with fewer attempts."""
        local = (ROOT / "templates/flink/local").joinpath
        flink_conf = CLUSTER["spec"]["flinkConfiguration"]
        assert flink_conf["execution.checkpointing.externalized-checkpoint-retention"] == RETAINED
        delay = f"{RESTART}.exponential-delay"
        settings = [name.removeprefix(delay) for name in flink_conf if name.startswith(delay)]
        assert (flink_conf[f"{RESTART}.type"], len(settings)) == ("exponential-delay", 4)
        for script in (local("cluster.py").read_text(), local("job-server").read_text()):
            assert f"\nexecution.checkpointing.externalized-checkpoint-retention: {RETAINED}\n" in script
            assert f"\n{RESTART}.type: exponential-delay\n" in script
            assert all(f"\n{delay}{name}: " in script for name in settings)

    def test_flink_logs_as_the_local_one_does_with_json(self) -> None:
        [log4j2] = CLUSTER["spec"]["logConfiguration"].values()
        local = (ROOT / "templates/flink/local/log4j2.properties").read_text()
        own = [line for line in log4j2.splitlines() if line.startswith(("logger.", "appender.json.layout"))]
        assert len(own) == 9
        assert [line for line in own if line not in local.splitlines()] == []
        assert {"name": "DEDUP_LOG_FORMAT", "value": "json"} in SUBMITTING["env"]

    def test_stream_is_never_submitted_twice(self) -> None:
        assert STREAM["spec"]["backoffLimit"] == 0
        assert PODS["stream"]["restartPolicy"] == "Never"


def test_flags_of_the_stream_are_valid_and_complete_for_flink() -> None:
    assert SUBMITTING["command"] == ["dedup"]
    given, rest = parser.parse(SUBMITTING["args"])
    config = checks.configure(given)
    assert config.stream
    assert config.stream.subscription
    assert config.near
    assert flink.complete(select.beam_options(rest)) == []


def test_command_of_the_page_fills_in_all_placeholders(tmp_path: Path) -> None:
    assert {WORKERS["image"], SUBMITTING["image"]} == {"IMAGE"}
    [command] = re.findall(r"^    (sed -i .*)", PAGE, re.MULTILINE)
    for path in FOLDER.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, timeout=SECONDS)
    files = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert not re.search(r"my-|IMAGE(?! is)", "".join(files.values()))
    assert all(list(yaml.safe_load_all(text)) for text in files.values())


def test_batch_command_of_the_page_is_valid() -> None:
    [line] = re.findall(r"^    (--near_duplicates --dump_dir.*)", PAGE, re.MULTILINE)
    runner = [
        flag for flag in SUBMITTING["args"] if flag.startswith(("--runner", "--environment", "--parallelism"))
    ]
    given, rest = parser.parse([*line.split(), *runner])
    config = checks.configure(given)
    assert config.stream is None
    assert not config.output_json
    assert select.beam_options(rest).get_all_options()["runner"] == FLAGS["runner"]
