"""Checks without Docker that the images can be built: the files that the Dockerfiles copy exist, and their scripts run."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

import beam_dedup
from tests.images import IMAGES, run_script
from tests.test_packaging import DEV_PINS, PINS, SETUP, pins

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "templates").rglob("Dockerfile*"))
IMAGE_PINS = pins("templates/image/requirements.txt")
BASE_PYTHON = "3.11"

each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)


class Instruction(NamedTuple):
    name: str
    rest: str

    def words(self) -> list[str]:
        """Returns the arguments without options."""
        return [word for word in self.rest.split() if not word.startswith("--")]


def instructions(path: Path) -> list[Instruction]:
    """Returns the instructions of a Dockerfile, without comments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [Instruction(*line.split(None, 1)) for line in lines if line]


def stages(path: Path) -> list[list[Instruction]]:
    """Returns the instructions of each build stage of a Dockerfile."""
    found: list[list[Instruction]] = []
    for one in instructions(path):
        if one.name == "FROM":
            found.append([])
        if found:  # an ARG may come first
            found[-1].append(one)
    return found


class TestDockerfiles:
    def test_dockerfile_of_workers_is_found(self) -> None:
        assert IMAGES / "Dockerfile" in DOCKERFILES

    def test_make_builds_every_dockerfile(self) -> None:
        built = re.findall(r"docker build --file (\S+)", (ROOT / "Makefile").read_text())
        assert sorted(ROOT / path for path in built) == DOCKERFILES

    @each_dockerfile
    @pytest.mark.slow
    def test_copied_files_exist(self, path: Path, image_context: Path) -> None:
        earlier = {one.rest.split(" AS ")[1] for one in instructions(path) if " AS " in one.rest}
        for one in instructions(path):
            if one.name == "COPY" and (match := re.match(r"--from=(\S+)", one.rest)):
                assert match[1] in earlier, one
            elif one.name == "COPY":
                for source in one.words()[:-1]:
                    assert len(list(image_context.glob(source))) == 1, one
            assert one.name != "ADD"

    @each_dockerfile
    def test_images_do_not_run_as_root(self, path: Path) -> None:
        [*_, last] = [one for one in stages(path)[-1] if one.name == "USER"]
        user = last.rest.split(":")[0]
        assert int(user) > 0, "must be a number: Kubernetes compares it with 0"

    @each_dockerfile
    def test_only_the_install_script_installs_packages(self, path: Path) -> None:
        """The environment that these tests install without Docker is then the one in the images."""
        for one in instructions(path):
            if one.name == "RUN":
                assert not re.search(r"\b(pip|apt|apt-get|curl|wget|uv)\b", one.rest), one

    def test_install_script_creates_the_environment_at_its_final_path(self) -> None:
        _, built, last = stages(IMAGES / "Dockerfile")
        [run] = [one for one in built if one.name == "RUN"]
        script, environment, folder = run.words()
        [copied] = [one for one in built if one.name == "COPY"]
        assert script == f"{folder}/install.sh"
        assert copied.words()[-1] == f"{folder}/"
        assert Instruction("COPY", f"--from=built {environment} {environment}") in last
        assert any(one.name == "ENV" and f"PATH={environment}/bin:$PATH" in one.rest for one in last)
        assert built[0].words()[0] == last[0].words()[0], (
            "an environment works only with the Python that created it"
        )

    def test_final_image_has_no_compiler(self) -> None:
        last = stages(IMAGES / "Dockerfile")[-1]
        assert last[0].words()[0].startswith(f"python:{BASE_PYTHON}-slim")
        assert Instruction("RUN", "! command -v cc") in last

    def test_base_images_match_the_pinned_beam_and_python(self) -> None:
        """The image's entry point and the package that it starts are of the same Beam version."""
        assert SETUP["python_requires"].startswith(f">={BASE_PYTHON}")
        beam, *others = (one.words()[0] for one in instructions(IMAGES / "Dockerfile") if one.name == "FROM")
        assert beam == f"apache/beam_python{BASE_PYTHON}_sdk:{PINS['apache-beam']}"
        assert all(f"python:{BASE_PYTHON}" in other for other in others)


def test_image_pins_are_development_pins() -> None:
    assert not PINS.keys() & IMAGE_PINS.keys()
    assert IMAGE_PINS.items() <= DEV_PINS.items()
    assert {"google-cloud-storage", "google-cloud-pubsub", "boto3", "pillow-heif"} <= IMAGE_PINS.keys()


def hashed_pins() -> dict[str, list[str]]:
    """Returns the hashes in hashes.txt by pin, such as "numpy==2.4.6"."""
    lines = re.sub(r" \\\n\s+", " ", (IMAGES / "hashes.txt").read_text()).splitlines()
    return {pin: hashes for pin, *hashes in (line.split() for line in lines if not line.startswith("#"))}


def test_every_pin_of_the_images_has_hashes() -> None:
    pinned = {
        canonicalize_name(pin.partition("==")[0]): Version(pin.partition("==")[2]) for pin in hashed_pins()
    }
    assert pinned == PINS | IMAGE_PINS
    for pin, hashes in hashed_pins().items():
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), pin


def test_launcher_can_be_named_by_its_digest() -> None:
    dataflow = ROOT / "templates/dataflow/Dockerfile"
    assert Instruction("FROM", "${LAUNCHER} AS launcher") in instructions(dataflow)
    assert '--build-arg LAUNCHER="$(LAUNCHER)"' in (ROOT / "Makefile").read_text()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_image_without_docker_fails_with_one_line(tmp_path: Path) -> None:
    for name in ("sh", "env", "python3"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [str(shutil.which("make")), "image"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode
    assert done.stderr.startswith("Docker is missing or does not answer: ")


@pytest.fixture
def run(image_environment: Path, tmp_path: Path) -> Callable[..., str]:
    """Returns a function that runs a program of the environment, with no other environment variables."""

    def run(program: str, *arguments: object) -> str:
        done = subprocess.run(
            [image_environment / "bin" / program, *map(str, arguments)],
            cwd=tmp_path,
            env={"PATH": f"{image_environment}/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
class TestInstalled:
    def test_environment_contains_the_pins_and_this_package_only(self, run: Callable[..., str]) -> None:
        lines = run("python", "-m", "pip", "freeze", "--exclude", "beam-dedup").lower().splitlines()
        expected = {f"{name}=={version}" for name, version in (PINS | IMAGE_PINS).items()}
        assert {
            re.sub(r"[._]", "-", line.split("==")[0]) + "==" + line.split("==")[1] for line in lines
        } == expected

    def test_environment_deduplicates(self, run: Callable[..., str], samples: Path) -> None:
        assert re.search(r"Final_Image_Count +17 ", run("dedup", "-n", "-i", samples, "-o", ""))

    def test_environment_has_the_modules_that_the_entry_point_starts(self, run: Callable[..., str]) -> None:
        """Beam's `boot` runs these modules with the first `python` on the path."""
        for module in ("sdk_worker_main", "worker_pool_main"):
            run("python", "-c", f"import apache_beam.runners.worker.{module}")

    def test_bill_of_materials_lists_what_is_installed(
        self, run: Callable[..., str], image_environment: Path, image_context: Path
    ) -> None:
        """The same environment always gives the same bill. Versions, licences and dependencies are those of the packages."""
        text = (image_environment / "sbom.cdx.json").read_text()
        assert run("python", image_context / "sbom.py") == text
        bill = json.loads(text)
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
        assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/beam-dedup@{beam_dedup.__version__}"
        versions = {one["name"]: Version(one["version"]) for one in bill["components"]}
        expected = PINS | IMAGE_PINS
        assert expected.items() <= versions.items()
        assert versions.keys() - expected.keys() <= {"pip", "setuptools"}
        assert all(one["purl"] == one["bom-ref"] for one in bill["components"])
        assert sum("licenses" in one for one in bill["components"]) > 0.9 * len(versions)
        needed = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
        references = {one["bom-ref"] for one in bill["components"]}
        assert {one for many in needed.values() for one in many} <= references
        assert f"pkg:pypi/pillow@{PINS['pillow']}" in needed[bill["metadata"]["component"]["bom-ref"]]

    def test_install_script_refuses_a_file_with_another_hash(
        self, image_context: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(image_context, tmp_path / "context")
        [pin] = [one for one in hashed_pins() if one.startswith("six==")]
        (tmp_path / "context/hashes.txt").write_text(f"{pin} --hash=sha256:{'0' * 64}\n")
        with pytest.raises(subprocess.CalledProcessError) as failed:
            run_script("install.sh", tmp_path / "environment", tmp_path / "context")
        assert b"DO NOT MATCH THE HASHES" in failed.value.stderr

    def test_install_script_refuses_an_existing_environment(
        self, image_environment: Path, image_context: Path
    ) -> None:
        with pytest.raises(subprocess.CalledProcessError) as failed:
            run_script("install.sh", image_environment, image_context)
        assert b"already exists" in failed.value.stderr
