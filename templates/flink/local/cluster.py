"""Starts and stops a Flink cluster of separate processes on this machine, which listen on 127.0.0.1 only.

    python cluster.py start --jars JARS --state STATE    starts a job manager, a task manager, workers and Beam's job server;
                                                         prints the options for dedup
    python cluster.py add --jars JARS --state STATE      starts one more task manager
    python cluster.py stop --state STATE                 stops all processes

JARS is the directory that `get` has filled; Flink itself is part of the job server. STATE is a directory for the files of the
cluster: its configuration (flink-conf.yaml), logs, process ids, checkpoints. The workers run with --python, whose
environment must have beam_dedup; they use neither another Python of the machine nor the process that submits the pipeline.

The logs contain warnings, errors and the state of jobs. The environment variables DEDUP_LOG_LEVEL (debug, info, warn, error) and
DEDUP_LOG_FORMAT (text, json) change that.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psutil

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PARTS = ("job-server", "workers", "task-manager", "job-manager")
PORTS = "8081,6123,8099,50000"
_READY_SECONDS, _END_SECONDS = 90, 15

_OPENED = ("lang", "net", "io", "nio", "text", "time", "util", "util.concurrent", "util.concurrent.atomic")
_OPENS = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED]
_LOGGING = f"-Dlog4j2.configurationFile={HERE.resolve() / 'log4j2.properties'}"
_ENTRY_POINTS = {
    "job-manager": "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
    "task-manager": "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
}
# classloader.resolve-order: all jars are on the class path, so classes that a job contains must not be loaded a second time.
# taskmanager.memory: Flink's own scripts compute these sizes; without the scripts, they must be given.
# restart-strategy: a job waits up to 10 s between two attempts, and ends after 20 in a row (about three minutes).
_CONFIGURATION = """\
jobmanager.rpc.address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.port: {rpc}
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest}
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: {slots}
taskmanager.cpu.cores: {slots}
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 768m
taskmanager.memory.task.off-heap.size: 128m
taskmanager.memory.managed.size: 512m
taskmanager.memory.network.min: 512m
taskmanager.memory.network.max: 512m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
parallelism.default: {slots}
classloader.resolve-order: parent-first
heartbeat.interval: 2000
heartbeat.timeout: 10000
restart-strategy.type: exponential-delay
restart-strategy.exponential-delay.initial-backoff: 1 s
restart-strategy.exponential-delay.max-backoff: 10 s
restart-strategy.exponential-delay.reset-backoff-threshold: 10 min
restart-strategy.exponential-delay.attempts-before-reset-backoff: 20
execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION
state.backend.type: {backend}
state.checkpoints.dir: {state_uri}/checkpoints
state.savepoints.dir: {state_uri}/savepoints
io.tmp.dirs: {state}/tmp
"""


def main() -> None:
    given = _arguments()
    state = given.state.resolve()
    if given.do == "stop":
        stop(state)
        return
    if not (given.jars / ".complete").exists():
        _fail(f"{given.jars} is not complete: run {HERE / 'get'} {given.jars}")
    if not shutil.which("java"):
        _fail("this needs Java 11 or 17 (Debian, Ubuntu: apt-get install default-jre-headless)")
    if given.do == "add":
        if not processes(state, "job-manager"):
            _fail(f"no cluster runs in {state}")
        _start_java(state, given.jars, "task-manager")
        return
    _start_all(state, given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("do", choices=["start", "add", "stop"], help="action")
    parser.add_argument(
        "--jars",
        type=Path,
        default=Path("flink"),
        help="directory that `get` has filled (default %(default)s)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("flink-state"),
        help="directory for the files of the cluster (default %(default)s)",
    )
    parser.add_argument(
        "--python", default=sys.executable, help="Python of the workers (default %(default)s)"
    )
    parser.add_argument(
        "--slots", type=int, default=2, help="task slots per task manager (default %(default)s)"
    )
    parser.add_argument(
        "--state_backend",
        default="rocksdb",
        choices=["rocksdb", "hashmap"],
        help="state backend of Flink (default %(default)s)",
    )
    parser.add_argument(
        "--conf",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of Flink, in addition to or instead of those in this program; may be repeated",
    )
    parser.add_argument(
        "--ports",
        default=PORTS,
        help="ports of REST, the job manager, the job server and the workers (default %(default)s)",
    )
    return parser.parse_args()


def _start_all(state: Path, given: argparse.Namespace) -> None:
    ports = [int(port) for port in given.ports.split(",")]
    rest, rpc, jobs, workers = ports
    if running := [name for name in PARTS if processes(state, name)]:
        _fail(f"there is a cluster in {state} ({', '.join(running)}): stop it first")
    for port in ports:
        if _answers(port):
            _fail(f"port {port} is in use: name others with --ports")
    if not (found := shutil.which(given.python)):
        _fail(f"--python: there is no program {given.python}")
    python = os.path.abspath(found)
    (state / "tmp").mkdir(parents=True, exist_ok=True)
    configuration = _CONFIGURATION.format(
        rest=rest,
        rpc=rpc,
        slots=given.slots,
        backend=given.state_backend,
        state=state,
        state_uri=state.as_uri(),
    )
    (state / "flink-conf.yaml").write_text(_with_settings(configuration, given.conf))
    for name in PARTS:
        (state / f"{name}.log").unlink(missing_ok=True)
    try:
        _start_java(state, given.jars, "job-manager")
        _wait_for(state, "job-manager", lambda: _task_managers(rest) is not None)
        _start_java(state, given.jars, "task-manager")
        served = [
            str(HERE / "job-server"),
            str(given.jars.resolve()),
            str(jobs),
            str(state),
            f"{HOST}:{rest}",
        ]
        _start(state, "job-server", served)
        _start(state, "workers", [python, "-m", "beam_dedup.worker_pool", f"--port={workers}"])
        _wait_for(state, "job-server", lambda: _answers(jobs))
        _wait_for(state, "workers", lambda: _answers(workers))
        _wait_for(state, "task-manager", lambda: bool(_task_managers(rest)))
    except BaseException:
        stop(state)
        raise
    print(f"Flink's web pages: http://{HOST}:{rest}    logs: {state}")
    print(
        f"--runner=PortableRunner --job_endpoint={HOST}:{jobs} --environment_type=EXTERNAL --environment_config={HOST}:{workers}"
        f" --flink_master={HOST}:{rest}"
    )


def _with_settings(configuration: str, settings: list[str]) -> str:
    """Returns a configuration of Flink with some settings, each NAME=VALUE, added or replaced."""
    lines = dict(line.split(": ", 1) for line in configuration.splitlines())
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not (name and separator):
            _fail(f"--conf must be NAME=VALUE, got {setting}")
        lines[name] = value
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _start_java(state: Path, jars: Path, name: str) -> None:
    command = ["java", "-Xmx1g", "-XX:MaxMetaspaceSize=512m", _LOGGING, *_OPENS, "-cp", f"{jars.resolve()}/*"]
    _start(state, name, [*command, _ENTRY_POINTS[name], "--configDir", str(state)])


def _start(state: Path, name: str, command: list[str]) -> None:
    """Starts a process in a session of its own, and stores its id and start time, which together identify it."""
    with (state / f"{name}.log").open("ab") as log:
        process = psutil.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=state,
            start_new_session=True,
        )
    with (state / f"{name}.pid").open("a") as file:
        file.write(f"{process.pid} {process.create_time()}\n")


def processes(state: Path, name: str) -> list[psutil.Process]:
    """Returns the running processes of a part, in the order in which they were started."""
    found = []
    file = state / f"{name}.pid"
    for line in file.read_text().splitlines() if file.exists() else ():
        pid, started = line.split()
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(pid))
            if process.create_time() == float(started) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _wait_for(state: Path, name: str, is_ready: Callable[[], bool]) -> None:
    """Waits until a part is ready. Exits if the part ends before, or takes longer than 90 seconds."""
    until = time.monotonic() + _READY_SECONDS
    while not is_ready():
        if not processes(state, name) or time.monotonic() > until:
            end = (state / f"{name}.log").read_text("utf-8", "replace")[-2000:]
            _fail(f"{name} did not start; the end of {state / name}.log:\n{end}")
        time.sleep(0.1)


def stop(state: Path) -> None:
    """Stops all processes of the cluster in a directory, and waits until they have ended."""
    running = [process for name in PARTS for process in processes(state, name)]
    for process in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(running, timeout=_END_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left)
    for name in PARTS:
        (state / f"{name}.pid").unlink(missing_ok=True)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _task_managers(rest: int) -> int | None:
    """Returns the number of task managers, or None if the job manager does not answer."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://{HOST}:{rest}/overview", timeout=5) as answer,
    ):
        return int(json.load(answer)["taskmanagers"])
    return None


def _fail(text: str) -> NoReturn:
    sys.exit(f"cluster: {text}")


if __name__ == "__main__":
    main()
