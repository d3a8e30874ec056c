"""Checks the CI workflow, and the stages that .ci/run runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.test_packaging import ROOT, supported_pythons

# Prints the arguments and whether slow tests are on; `make test` fails if the environment says so.
MAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo "a make"; exit; fi
echo "make $* DEDUP_CI=$DEDUP_CI"
case "$*" in *" test") exit ${TEST_STATUS:-0};; esac
"""
# What pyenv puts on the path for a version that it has not selected.
SHIM = "#!/bin/sh\nexit 127\n"


def test_workflow_runs_ci_on_every_supported_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    [job] = workflow["jobs"].values()
    assert job["strategy"]["matrix"] == {"python": supported_pythons()}
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert {action.partition("@")[0] for action in actions} >= {"actions/checkout", "actions/setup-python"}
    assert all(re.fullmatch(r"[\w./-]+@v\d+", action) for action in actions), "pinned by major version"
    [setup] = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
    assert setup["with"] == {"python-version": "${{ matrix.python }}"}
    [run] = [step for step in job["steps"] if "run" in step]
    assert run["run"] == ".ci/run"
    assert run["env"]["PYTHON"] == "python${{ matrix.python }}"


class TestRun:
    """Runs .ci/run with a `make` that only prints its arguments, and with no other Pythons than the given ones."""

    @pytest.fixture(autouse=True)
    def programs(self, tmp_path: Path) -> Path:
        for name in ("bash", "dirname", "env", "head", "sed", "sh"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
        (tmp_path / "python3").symlink_to(sys.executable)
        self.write_program(tmp_path / "make", MAKE)
        return tmp_path

    @staticmethod
    def write_program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    @staticmethod
    def run(programs: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [ROOT / ".ci/run"],
            env={"PATH": str(programs), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_quick_tests_run_on_other_pythons_that_start(self, programs: Path) -> None:
        ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
        shim, works = [version for version in supported_pythons() if version != ours]
        self.write_program(programs / f"python{shim}", SHIM)
        (programs / f"python{works}").symlink_to(sys.executable)
        done = self.run(programs)
        assert done.returncode == 0, done.stderr
        made = [line for line in done.stdout.splitlines() if line.startswith("make ")]
        assert made[:3] == [
            "make PYTHON=python3 check DEDUP_CI=",
            "make PYTHON=python3 services DEDUP_CI=",
            "make PYTHON=python3 test DEDUP_CI=1",
        ]
        [quick] = made[3:]
        assert quick.startswith(
            f"make PYTHON={programs}/python{works} VENV=.ci/venv/{works} test PYTEST_ARGS="
        )
        assert "-m 'not service' tests/core" in quick
        assert quick.endswith(" DEDUP_CI=")
        assert f"== Python {shim} is not on this machine" in done.stdout
        stages = re.findall(r"^ *\d+:\d\d  (.+)$", done.stdout, re.MULTILINE)
        assert stages == [
            "make check",
            "make services",
            "make test",
            f"quick tests on Python {works}",
            "total",
        ]

    def test_one_python_leaves_out_the_others(self, programs: Path) -> None:
        for version in supported_pythons():
            (programs / f"python{version}").symlink_to(sys.executable)
        done = self.run(programs, ONE_PYTHON="1")
        assert done.returncode == 0, done.stderr
        assert "quick tests" not in done.stdout

    def test_failed_stage_ends_the_run(self, programs: Path) -> None:
        done = self.run(programs, TEST_STATUS="3")
        assert done.returncode == 3
        assert "all stages passed" not in done.stdout
        assert re.search(r"^ *\d+:\d\d  make test$", done.stdout, re.MULTILINE)
