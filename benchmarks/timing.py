"""Commands timed side by side, as whole processes, at one or two sizes of the same set of files."""

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
Commands = Callable[[Path], dict[str, Command]]  # from a folder of images


@dataclasses.dataclass(frozen=True)
class Timed:
    """Seconds of one command in each round, at a smaller and a larger number of images."""

    sizes: tuple[int, int]
    seconds: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def medians(self) -> tuple[float, float]:
        small, large = self.seconds
        return statistics.median(small), statistics.median(large)

    @property
    def slope(self) -> float:
        """Images a second between the two sizes: the rate without what every run costs."""
        small, large = self.medians
        return (self.sizes[1] - self.sizes[0]) / (large - small)

    @property
    def fixed(self) -> float:
        """Seconds that a run costs beyond its images at that rate."""
        return self.medians[0] - self.sizes[0] / self.slope

    def slopes(self) -> list[float]:
        """The slope in each round."""
        step = self.sizes[1] - self.sizes[0]
        return [step / (large - small) for small, large in zip(*self.seconds, strict=True)]


def dedup(folder: Path, *flags: str, output: str = "") -> Command:
    """The whole command line program on a folder, quietly, writing no groups unless `output` names a file."""
    return [sys.executable, "-m", "beam_dedup", "-i", str(folder), "-o", output, "--quiet", *flags]


def at_two_sizes(folder: Path, sizes: tuple[int, int], commands: Commands, rounds: int) -> dict[str, Timed]:
    """Times each command on the first files of a folder, so many and so many.

    All commands take turns within a round: a machine that slows down slows all of them.
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
    """Seconds that a command takes, from the start of its process to its end.

    Raises:
      CalledProcessError: it fails, after its output was shown.
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
    """A folder with the first `count` files of another, for as long as it is needed.

    Raises:
      SystemExit: there are not so many.
    """
    with linked(folder, first_files(folder, count)) as part:
        yield part


@contextmanager
def linked(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder beside `folder` with some of its files, as hard links; removed in the end.

    The files are read once, so that the first command that is timed finds them in memory as the later ones do.
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
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if len(names) < count:
        sys.exit(f"{folder} has {len(names)} files, {count} are needed: see benchmarks/pictures.py")
    return names[:count]
