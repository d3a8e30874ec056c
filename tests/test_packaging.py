"""What is installed: versions that agree, the right files, and nobody else's `transforms`."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import beam_dedup
from beam_dedup.core.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[1]
PACKAGES = {"beam_dedup", "transforms"}
DISTRIBUTION = "beam-dedup"

# Names under which distributions are imported, where that is not their own.
IMPORTED_AS = {
    "pillow-heif": "pillow_heif",
    "apache-beam": "apache_beam",
    "pillow": "PIL",
    "grpcio": "grpc",
    "protobuf": "google",
}
# What Beam's extras bring, and we name only the errors of.
BROUGHT_BY_EXTRAS = {"aws": {"boto3", "botocore"}, "gcp": {"google", "requests"}}


def setup_arguments() -> dict[str, Any]:
    """What setup.py passes to setup(), of what is written there as plain values."""
    calls = [
        node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)
    ]
    [call] = [node for node in calls if ast.unparse(node.func) == "setup"]
    arguments = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    return {
        name: ast.literal_eval(value) for name, value in arguments.items() if not isinstance(value, ast.Call)
    }


def pins(name: str) -> dict[str, Version]:
    """The versions of a requirements file, which may hold nothing but pins and comments."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            match = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
            assert match, f"{name}: {line!r} is no pin"
            found[canonicalize_name(match[1])] = Version(match[2])
    return found


SETUP = setup_arguments()
RANGES = [Requirement(text) for text in SETUP["install_requires"]]
DEV_RANGES = [Requirement(text) for text in SETUP["extras_require"]["dev"]]
PINS = pins("requirements.txt")
DEV_PINS = pins("requirements-dev.txt")


class TestVersions:
    @pytest.mark.parametrize("requirement", [*RANGES, *DEV_RANGES], ids=str)
    def test_each_range_admits_its_pin(self, requirement: Requirement) -> None:
        pin = (PINS | DEV_PINS)[canonicalize_name(requirement.name)]
        assert pin in requirement.specifier

    @pytest.mark.parametrize("requirement", [*RANGES, *DEV_RANGES], ids=str)
    def test_each_range_ends(self, requirement: Requirement) -> None:
        assert Version("9999") not in requirement.specifier
        assert Version("0") not in requirement.specifier

    def test_what_runs_is_pinned_apart_from_what_tests(self) -> None:
        assert {canonicalize_name(requirement.name) for requirement in RANGES} <= set(PINS)
        assert not set(PINS) & set(DEV_PINS)
        assert canonicalize_name(DISTRIBUTION) not in PINS | DEV_PINS

    def test_what_is_imported_is_asked_for(self) -> None:
        """A package that comes along with another's requirements goes when those do."""
        extras = [Requirement(text) for extra in ("heif", "pdq") for text in SETUP["extras_require"][extra]]
        names = (canonicalize_name(one.name) for one in [*RANGES, *extras])
        asked = {IMPORTED_AS.get(name, name) for name in names}
        brought = {name for extra in BROUGHT_BY_EXTRAS for name in BROUGHT_BY_EXTRAS[extra]}
        assert BROUGHT_BY_EXTRAS.keys() <= SETUP["extras_require"].keys()
        assert {"apache_beam", "PIL"} <= third_party_imports() <= asked | brought

    def test_beam_is_one_fact(self) -> None:
        """One minor version in the range, the pin, and wherever else a file names one."""
        beam = PINS["apache-beam"]
        minor = f"{beam.major}.{beam.minor}"
        [requirement] = [one for one in RANGES if one.name == "apache-beam"]
        assert requirement.specifier == SpecifierSet(f">={minor},<{beam.major}.{beam.minor + 1}")
        named = {}
        for path in tracked_text_files():
            for match in re.finditer(
                r"(?i)\bbeam\b[^\n\d]{0,12}(\d+\.\d+)", path.read_text("utf-8", "replace")
            ):
                named[f"{path.relative_to(ROOT)}: {match[0]}"] = match[1]
        assert set(named.values()) <= {minor, f"{beam.major}.{beam.minor + 1}"}, named
        assert any("setup.py" in place for place in named), "the search itself works"

    def test_this_is_the_pinned_beam(self) -> None:
        assert Version(importlib.metadata.version("apache-beam")) == PINS["apache-beam"]

    def test_our_own_version_is_one_fact(self) -> None:
        assert SETUP["version"] == beam_dedup.__version__

    def test_pythons_are_one_fact(self) -> None:
        named = [
            text.rpartition(" ")[2] for text in SETUP["classifiers"] if re.search(r"Python :: 3\.\d", text)
        ]
        admitted = SpecifierSet(SETUP["python_requires"])
        assert [f"3.{minor}" for minor in range(30) if Version(f"3.{minor}") in admitted] == named
        pyproject = (ROOT / "pyproject.toml").read_text()
        assert f'python_version = "{named[0]}"' in pyproject
        assert f'target-version = "py{named[0].replace(".", "")}"' in pyproject

    def test_fingerprints_are_only_comparable_with_those_of_one_decoder(self) -> None:
        [pillow] = [one for one in RANGES if canonicalize_name(one.name) == "pillow"]
        pin = PINS["pillow"]
        assert pillow.specifier == SpecifierSet(f">={pin.major}.{pin.minor},<{pin.major}.{pin.minor + 1}")
        [imagehash] = [one for one in RANGES if canonicalize_name(one.name) == "imagehash"]
        [pdqhash] = [Requirement(text) for text in SETUP["extras_require"]["pdq"]]
        for library, of in ((imagehash, "phash dhash ahash whash colorhash"), (pdqhash, "pdq")):
            for name in of.split():
                version = re.search(r"hash-(\d+)\.(\d+)", ALGORITHMS[name].recipe)
                assert version, name
                major, minor = map(int, version.groups())
                assert f"{major}.{minor}" in library.specifier or f"{major}.{minor}.9" in library.specifier
                assert f"{major}.{minor + 1}" not in library.specifier


def third_party_imports() -> set[str]:
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - PACKAGES


def tracked_text_files() -> list[Path]:
    """What a reader would take for the project's: sources and documents, not what tools left there."""
    kinds = {".py", ".md", ".txt", ".toml", ".json", ".sh", ".yaml", ".yml"}
    names = {"Makefile", "Dockerfile"}
    skipped = {"tests", "build", "dist", "demo"}
    return [
        path
        for path in ROOT.rglob("*")
        if (path.suffix in kinds or path.name in names)
        and not skipped & set(path.relative_to(ROOT).parts)
        and not any(
            part.startswith(".") or part.endswith(".egg-info") for part in path.relative_to(ROOT).parts
        )
        and path.is_file()
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What setuptools would put into a wheel, and its metadata: built from a copy, without a network."""
    pytest.importorskip(
        "setuptools", reason="setuptools is not in this environment (Python 3.12 leaves it out)"
    )
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.name.startswith(".") or path.suffix == ".egg-info" or path.name in {"build", "dist", "demo"}:
            continue
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", "lib", "egg_info"]
    subprocess.run(command, cwd=source, check=True, timeout=100, capture_output=True)
    return source / "lib", source / "beam_dedup.egg-info"


class TestBuild:
    def test_a_wheel_has_the_two_packages_and_nothing_else(self, built: tuple[Path, Path]) -> None:
        library, _ = built
        expected = {
            str(path.relative_to(ROOT))
            for package in PACKAGES
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert {str(path.relative_to(library)) for path in library.rglob("*") if path.is_file()} == expected
        assert {f"{package}/py.typed" for package in PACKAGES} <= expected

    def test_its_metadata_is_what_we_say(self, built: tuple[Path, Path]) -> None:
        _, metadata = built
        assert set((metadata / "top_level.txt").read_text().split()) == PACKAGES
        assert "dedup = beam_dedup.cli:entry" in (metadata / "entry_points.txt").read_text()
        assert "Private :: Do Not Upload" in (metadata / "PKG-INFO").read_text()

    def test_it_works_without_the_checkout(self, built: tuple[Path, Path], tmp_path: Path) -> None:
        """A file that was forgotten is missed here and not on a worker."""
        library, _ = built
        program = "import transforms, beam_dedup.cli; print(transforms.__file__, beam_dedup.cli.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"PYTHONPATH": str(library), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        assert done.stdout.split() == [
            str(library / "transforms/__init__.py"),
            str(library / "beam_dedup/cli.py"),
        ]

    def test_setup_reads_no_other_file(self) -> None:
        """A worker builds the source archive, in which there may be none."""
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
            if isinstance(node, ast.Call)
        ]
        assert sorted(calls) == ["find_packages", "setup"]


class TestInstalled:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        try:
            importlib.metadata.distribution(DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("beam-dedup is not installed here: the tests run on the source alone")

    def test_transforms_is_ours_alone(self) -> None:
        """A distribution of that name exists; installed after ours it takes our place without a word."""
        owners = importlib.metadata.packages_distributions()
        assert set(owners["transforms"]) == {DISTRIBUTION}
        assert set(owners["beam_dedup"]) == {DISTRIBUTION}

    def test_the_command_is_there(self) -> None:
        [command] = importlib.metadata.entry_points(group="console_scripts", name="dedup")
        assert command.load().__module__ == "beam_dedup.cli"
        assert (Path(sysconfig.get_path("scripts")) / "dedup").exists()
