"""A directory that tests write to while a stream watches it, and checks of what the stream wrote."""

import time
from collections.abc import Sequence
from pathlib import Path

from beam_dedup.core.paths import is_partial
from tests import stream_files
from tests.app.cli_runs import tree
from tests.app.stream_process import StreamProcess, check_counts
from tests.verdicts_outside import Key, Outside, Record, by_status, check_copies, check_each_once, key_of

PIECES = 6  # of a file that is written slowly
POLL_SECONDS = 1.0  # between two polls of the directory by the stream


class WatchedDirectory:
    """A directory for input files.

    Attributes:
      folder: its path.
      expected: the contents of every image that was in it, by URI and generation, as it was when it was complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[Key, bytes] = {}
        folder.mkdir()

    def write(self, name: str, data: bytes) -> None:
        """Writes a file elsewhere and moves it here, so that it appears complete."""
        path = self._path(name)
        partial = self.folder.parent / "partial"
        partial.write_bytes(data)
        partial.rename(path)
        self.expect(name)

    def write_slowly(self, files: dict[str, bytes]) -> None:
        """Writes files in place and in pieces, with less than one poll between two pieces and several polls in all."""
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
        """Adds a file, as it is now, to the expected images."""
        path = self.folder / name
        generation = stream_files.generation_of(str(path))
        self.expected |= stream_files.expected_of(str(path), generation, path.read_bytes())

    def _path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def files_in(folder: Path) -> list[Path]:
    """Returns all files below a directory except partial ones."""
    return [path for path in folder.rglob("*") if path.is_file() and not is_partial(path.name)]


def once(records: Sequence[Record]) -> list[Record]:
    """Returns the records without repeated ones, which must be the same."""
    found: dict[Key, Record] = {}
    for record in records:
        assert found.setdefault(key_of(record), record) == record
    return list(found.values())


def check(run: StreamProcess, incoming: WatchedDirectory, out: Path, repeated: bool = False) -> None:
    """Checks records, verdicts, copies and counts of all runs with the directory of this one.

    Args:
      run: the last run.
      incoming: the watched directory.
      out: the output directory.
      repeated: whether several runs may have written the same record.
    """
    written = run.records()
    records = once(written) if repeated else written
    check_each_once(records, incoming.expected)
    Outside(incoming.expected.values()).check(records)
    check_copies(records, tree(out))
    counted = check_counts(run.folder)
    assert not list(run.folder.rglob(".dedup-*")), "partial files were left"
    assert counted["Initial_Image_Count"] == len(written)
    assert counted["Final_Image_Count"] == len(by_status(written, "kept"))
