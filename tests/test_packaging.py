"""Checks what is built and installed: consistent versions, the right files, no foreign package named `transforms`."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import beam_dedup
from beam_dedup.core.algorithms import ALGORITHMS
from tests.app.yaml_pipelines import PIPELINE, check_outputs, write_pipeline

ROOT = Path(__file__).parents[1]
PACKAGES = {"beam_dedup", "transforms"}
DISTRIBUTION = "beam-dedup"

# Import names of distributions whose import name differs from their own.
IMPORTED_AS = {
    "pillow-heif": "pillow_heif",
    "apache-beam": "apache_beam",
    "pillow": "PIL",
    "grpcio": "grpc",
    "protobuf": "google",
}
# Packages installed by Beam's extras; this project imports only their exceptions.
BROUGHT_BY_EXTRAS = {"aws": {"boto3", "botocore"}, "gcp": {"google", "requests"}}
# Packages that users have or have not; one error says that they are needed.
OF_USERS = {"pandas"}


def setup_arguments() -> dict[str, Any]:
    """Returns the arguments of setup() in setup.py that are literals."""
    calls = [
        node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)
    ]
    [call] = [node for node in calls if ast.unparse(node.func) == "setup"]
    arguments = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    return {
        name: ast.literal_eval(value) for name, value in arguments.items() if not isinstance(value, ast.Call)
    }


def supported_pythons() -> list[str]:
    """Returns the Python versions in the classifiers of setup.py, the oldest first: ["3.11", ...]."""
    return [text.rpartition(" ")[2] for text in SETUP["classifiers"] if re.search(r"Python :: 3\.\d", text)]


def applies_to(requirement: Requirement, python: str, extra: str = "") -> bool:
    """Returns whether the marker of a requirement is absent or true for a Python version and an extra."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def pins(name: str, python: str = "3.11") -> dict[str, Version]:
    """Returns the versions that a requirements file pins for a Python. It may contain only pins and comments."""
    found: dict[str, Version] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            match = re.fullmatch(r"([\w.-]+)==([\w.]+)(; python_version [<>]=? \"[\d.]+\")?", line)
            assert match, f"{name}: {line!r} is not a pin"
            if applies_to(Requirement(line), python):
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
    def test_each_range_has_both_bounds(self, requirement: Requirement) -> None:
        assert Version("9999") not in requirement.specifier
        assert Version("0") not in requirement.specifier

    def test_runtime_and_development_pins_are_disjoint(self) -> None:
        assert {canonicalize_name(requirement.name) for requirement in RANGES} <= set(PINS)
        assert not set(PINS) & set(DEV_PINS)
        assert canonicalize_name(DISTRIBUTION) not in PINS | DEV_PINS

    def test_every_imported_package_is_declared(self) -> None:
        """A package installed only as another's dependency disappears when that dependency is dropped."""
        extras = [Requirement(text) for extra in ("heif", "pdq") for text in SETUP["extras_require"][extra]]
        names = (canonicalize_name(one.name) for one in [*RANGES, *extras])
        declared = {IMPORTED_AS.get(name, name) for name in names}
        brought = {name for extra in BROUGHT_BY_EXTRAS for name in BROUGHT_BY_EXTRAS[extra]}
        assert BROUGHT_BY_EXTRAS.keys() <= SETUP["extras_require"].keys()
        assert {"apache_beam", "PIL"} <= third_party_imports() <= declared | brought | OF_USERS

    def test_all_files_name_the_same_beam_version(self) -> None:
        """The range, the pin and every other mention in a file agree on the minor version."""
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
        assert any("setup.py" in mention for mention in named), "the search itself fails"

    @pytest.mark.parametrize("python", supported_pythons())
    def test_pins_meet_the_requirements_of_beam(self, python: str) -> None:
        """Beam requires other versions of some packages on some Pythons; the pins come from the oldest one."""
        required = [
            requirement
            for requirement in map(Requirement, importlib.metadata.requires("apache-beam") or [])
            if any(applies_to(requirement, python, extra) for extra in ("", "aws", "gcp"))
        ]
        versions = pins("requirements.txt", python) | pins("requirements-dev.txt", python)
        assert len(required) > 30
        for requirement in required:
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement

    def test_installed_beam_is_the_pinned_version(self) -> None:
        assert Version(importlib.metadata.version("apache-beam")) == PINS["apache-beam"]

    def test_setup_and_package_have_the_same_version(self) -> None:
        assert SETUP["version"] == beam_dedup.__version__

    def test_all_files_name_the_same_pythons(self) -> None:
        named = supported_pythons()
        admitted = SpecifierSet(SETUP["python_requires"])
        assert [f"3.{minor}" for minor in range(30) if Version(f"3.{minor}") in admitted] == named
        pyproject = (ROOT / "pyproject.toml").read_text()
        assert f'python_version = "{named[0]}"' in pyproject
        assert f'target-version = "py{named[0].replace(".", "")}"' in pyproject

    def test_decoder_and_hash_libraries_are_limited_to_one_minor_version(self) -> None:
        [pillow] = [one for one in RANGES if canonicalize_name(one.name) == "pillow"]
        pin = PINS["pillow"]
        assert pillow.specifier == SpecifierSet(f">={pin.major}.{pin.minor},<{pin.major}.{pin.minor + 1}")
        [imagehash] = [one for one in RANGES if canonicalize_name(one.name) == "imagehash"]
        [pdqhash] = [Requirement(text) for text in SETUP["extras_require"]["pdq"]]
        for library, algorithms in ((imagehash, "phash dhash ahash whash colorhash"), (pdqhash, "pdq")):
            for name in algorithms.split():
                version = re.search(r"hash-(\d+)\.(\d+)", ALGORITHMS[name].recipe)
                assert version, name
                major, minor = map(int, version.groups())
                assert f"{major}.{minor}" in library.specifier or f"{major}.{minor}.9" in library.specifier
                assert f"{major}.{minor + 1}" not in library.specifier


def third_party_imports() -> set[str]:
    """Returns the top-level names that the packages import from neither the standard library nor themselves."""
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
    """Returns the project's sources and documents, without files that tools have generated."""
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


def copy_checkout(target: Path) -> None:
    """Copies all files that a build may use into an existing directory, so that the build leaves no files here."""
    for path in ROOT.iterdir():
        if path.name.startswith(".") or path.suffix == ".egg-info" or path.name in {"build", "dist", "demo"}:
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, target)


def package_files() -> set[str]:
    """Returns the paths of all files of the two packages, relative to the checkout."""
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The library directory that setuptools puts into a wheel, and its metadata: built from a copy, offline."""
    source = tmp_path_factory.mktemp("source")
    copy_checkout(source)
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", "lib", "egg_info"]
    subprocess.run(command, cwd=source, check=True, timeout=100, capture_output=True)
    return source / "lib", source / "beam_dedup.egg-info"


class TestBuild:
    def test_build_contains_the_two_packages_and_nothing_else(self, built: tuple[Path, Path]) -> None:
        library, _ = built
        expected = package_files()
        assert {str(path.relative_to(library)) for path in library.rglob("*") if path.is_file()} == expected
        assert {f"{package}/py.typed" for package in PACKAGES} <= expected

    def test_metadata_matches_setup(self, built: tuple[Path, Path]) -> None:
        _, metadata = built
        assert set((metadata / "top_level.txt").read_text().split()) == PACKAGES
        assert "dedup = beam_dedup.cli:entry" in (metadata / "entry_points.txt").read_text()
        assert "Private :: Do Not Upload" in (metadata / "PKG-INFO").read_text()

    def test_build_works_without_the_checkout(self, built: tuple[Path, Path], tmp_path: Path) -> None:
        """A file missing from the build fails here and not on a worker."""
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
        """A worker builds a source archive that may contain no other file."""
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
            if isinstance(node, ast.Call)
        ]
        assert sorted(calls) == ["find_packages", "setup"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist and the wheel that `python -m build` makes from a copy of the checkout, offline."""
    source = tmp_path_factory.mktemp("source")
    copy_checkout(source)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), "."]
    done = subprocess.run(command, cwd=source, timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [sdist] = out.glob("*.tar.gz")
    [wheel] = out.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def import_directories() -> Iterable[str]:
    """Returns the site-packages directories from which these tests import their dependencies."""
    return (entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"})


class TestDistributions:
    def test_sdist_contains_what_a_build_needs_and_no_tests(self, distributions: dict[str, Path]) -> None:
        with tarfile.open(distributions["sdist"]) as archive:
            names = {
                name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()
            }
        generated = {name for name in names if name.startswith("beam_dedup.egg-info/")}
        build_files = {
            "setup.py",
            "setup.cfg",
            "pyproject.toml",
            "MANIFEST.in",
            "PKG-INFO",
            "LICENSE",
            "README.md",
        }
        assert names - generated == package_files() | build_files

    def test_wheel_contains_the_two_packages_and_nothing_else(self, distributions: dict[str, Path]) -> None:
        names = zipfile.ZipFile(distributions["wheel"]).namelist()
        assert {name for name in names if ".dist-info/" not in name} == package_files()

    @pytest.mark.parametrize("kind", ["sdist", "wheel"])
    def test_command_works_in_an_empty_environment(
        self, kind: str, distributions: dict[str, Path], samples: Path, tmp_path: Path
    ) -> None:
        """The environment contains the distribution alone; it imports the dependencies that these tests use."""
        environment = tmp_path / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
        python = environment / "bin/python"
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(
            subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
        )
        (packages / "dependencies.pth").write_text("\n".join(import_directories()))
        # --force-reinstall: pip also finds the distribution installed for these tests, and would not install another.
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall"]
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
        command.append(str(distributions[kind]))
        installed = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert installed.returncode == 0, installed.stderr

        def run(*arguments: object) -> str:
            done = subprocess.run(
                list(map(str, arguments)),
                cwd=tmp_path,
                env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=100,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        dedup = environment / "bin/dedup"
        program = "import beam_dedup, transforms; print(beam_dedup.__file__, transforms.__file__)"
        expected = [str(packages / package / "__init__.py") for package in ("beam_dedup", "transforms")]
        assert run(python, "-c", program).split() == expected
        assert run(dedup, "--version") == f"dedup {SETUP['version']}\n"
        assert "\nusage: dedup " in run(dedup, "--help")
        providers = run(python, "-m", "beam_dedup.beam_yaml").strip()
        assert providers == str(packages / "beam_dedup/beam_yaml/providers.yaml")
        pipeline = write_pipeline(tmp_path, PIPELINE.replace("{providers}", providers))
        flags = (f"--yaml_pipeline_file={pipeline}", "--runner=FnApiRunner")
        run(python, "-m", "apache_beam.yaml.main", *flags)
        check_outputs(tmp_path)
        assert re.search(r"Final_Image_Count +17 ", run(dedup, "-n", "-i", samples, "-o", ""))


class TestInstalled:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        try:
            importlib.metadata.distribution(DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("beam-dedup is not installed: the tests use the sources of this checkout")

    def test_no_other_distribution_provides_our_packages(self) -> None:
        """PyPI has a distribution named transforms; installed after this one it silently replaces our package."""
        owners = importlib.metadata.packages_distributions()
        assert set(owners["transforms"]) == {DISTRIBUTION}
        assert set(owners["beam_dedup"]) == {DISTRIBUTION}

    def test_dedup_command_is_installed(self) -> None:
        [command] = importlib.metadata.entry_points(group="console_scripts", name="dedup")
        assert command.load().__module__ == "beam_dedup.cli"
        assert (Path(sysconfig.get_path("scripts")) / "dedup").exists()
