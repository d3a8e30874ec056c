"""A folder that tests write to while a run watches it, and what must hold of what the run makes of it."""

import time
from pathlib import Path

from beam_dedup.core.paths import is_partial
from tests import stream_files
from tests.app.cli_runs import tree
from tests.app.stream_process import StreamProcess, check_counts
from tests.verdicts_outside import Key, Outside, by_status, check_copies, check_each_once

PIECES = 6  # of a file that is written slowly
POLL_SECONDS = 1.0  # seconds


class WatchedDirectory:
    """A folder that files are written to, and what has been there: each generation once, when it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[Key, bytes] = {}
        folder.mkdir()

    def write(self, name: str, data: bytes) -> None:
        """Under another name first: so it is there as a whole."""
        path = self._path(name)
        partial = self.folder.parent / "partial"
        partial.write_bytes(data)
        partial.rename(path)
        self.expect(name)

    def write_slowly(self, files: dict[str, bytes]) -> None:
        """In place and in pieces, with less time between them than between two looks, and more than two looks in all."""
        paths = {self._path(name): data for name, data in files.items()}
        for path in paths:
            path.write_bytes(b"")
        for piece in range(PIECES):
            for path, data in paths.items():
                at, to = (len(data) * part // PIECES for part in (piece, piece + 1))
                with path.open("ab") as file:
                    file.write(data[at:to])
            time.sleep(0.45 * POLL_SECONDS)
        for name in files:
            self.expect(name)

    def expect(self, name: str) -> None:
        path = self.folder / name
        generation = stream_files.generation_of(str(path))
        self.expected |= stream_files.expected_of(str(path), generation, path.read_bytes())

    def _path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not is_partial(path.name)]


def check(run: StreamProcess, incoming: WatchedDirectory, out: Path) -> None:
    """All that must hold of what was written."""
    records = run.records()
    check_each_once(records, incoming.expected)
    Outside(incoming.expected.values()).check(records)
    check_copies(records, tree(out))
    counted = check_counts(run.folder)
    assert not list(run.folder.rglob(".dedup-*")), "files that were begun and never finished"
    assert counted["Initial_Image_Count"] == len(records)
    assert counted["Final_Image_Count"] == len(by_status(records, "kept"))
