"""Times commands as whole processes, alternately, at one or two sizes of the same set of files."""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]

Command = list[str]
Commands = Callable[[Path], dict[str, Command]]  # takes a directory of images; returns commands by name


@dataclasses.dataclass(frozen=True)
class Timed:
    """The seconds that one command took in each round, at a smaller and a larger number of images."""

    sizes: tuple[int, int]
    seconds: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def medians(self) -> tuple[float, float]:
        small, large = self.seconds
        return statistics.median(small), statistics.median(large)

    @property
    def slope(self) -> float:
        """Images per second between the two sizes: the rate without the fixed cost of a run."""
        small, large = self.medians
        return (self.sizes[1] - self.sizes[0]) / (large - small)

    @property
    def fixed(self) -> float:
        """The fixed cost of a run in seconds: its time at the smaller size, less its images at the rate of the slope."""
        return self.medians[0] - self.sizes[0] / self.slope

    def slopes(self) -> list[float]:
        """Returns the slope in each round."""
        step = self.sizes[1] - self.sizes[0]
        return [step / (large - small) for small, large in zip(*self.seconds, strict=True)]


def dedup(folder: Path, *flags: str, output: str = "") -> Command:
    """Returns the command that runs `dedup` on a directory, quietly. It writes groups only if `output` names a file."""
    return [sys.executable, "-m", "beam_dedup", "-i", str(folder), "-o", output, "--quiet", *flags]


def at_two_sizes(folder: Path, sizes: tuple[int, int], commands: Commands, rounds: int) -> dict[str, Timed]:
    """Times each command on the first files of a directory, at both sizes.

    The commands alternate within a round, so that a machine that slows down affects all of them.
    """
    with ExitStack() as stack:
        folders = [stack.enter_context(subset(folder, size)) for size in sizes]
        seconds: dict[str, tuple[list[float], list[float]]] = {}
        for _ in range(rounds):
            for at, part in enumerate(folders):
                for name, command in commands(part).items():
                    seconds.setdefault(name, ([], []))[at].append(timed(command))
    return {name: Timed(sizes, (tuple(small), tuple(large))) for name, (small, large) in seconds.items()}


def timed(command: Command) -> float:
    """Returns the seconds from the start of a command's process to its end.

    Raises:
      CalledProcessError: the command failed. Its output has been written to stderr.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
    done.check_returncode()
    return seconds


@contextmanager
def subset(folder: Path, count: int) -> Iterator[Path]:
    """Yields a directory with the first `count` files of another one.

    Raises:
      SystemExit: the directory has fewer files.
    """
    with linked(folder, first_files(folder, count)) as part:
        yield part


@contextmanager
def linked(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields a directory beside `folder` with hard links to some of its files, and removes it at the end.

    Reads the files once, so that they are in the page cache for the first timed command as for the later ones.
    """
    folder = folder.resolve()
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-{len(names)}-", dir=folder.parent) as made:
        for name in names:
            target = Path(made, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / name, target)
            target.read_bytes()
        yield Path(made)


def first_files(folder: Path, count: int) -> Sequence[str]:
    """Returns the relative paths of the first `count` files of a directory by name, or exits if it has fewer."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if len(names) < count:
        sys.exit(
            f"{folder} has {len(names)} files, but {count} are needed: make them with benchmarks/pictures.py"
        )
    return names[:count]
