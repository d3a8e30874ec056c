"""Reports what a pipeline reads and writes as Beam's lineage (`apache_beam.metrics.metric.Lineage`).

Inputs and outputs are reported as they are named: files, directories, prefixes. Images that rows or notifications name are
reported as their directories and buckets, of which a list has at most `MOST`; Beam bounds the metric as a whole.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.input_paths import is_pattern, root

MOST = 100


def report_read(path: str) -> None:
    """Reports an input: a file, a directory or a prefix; of a pattern, the directory before its first wildcard."""
    with contextlib.suppress(ValueError, BeamIOError):  # no such file system: reading reports that
        FileSystems.report_source_lineage(_named((root(path) or ".") if is_pattern(path) else path))


def report_written(path: str) -> None:
    """Reports an output: a file or a directory."""
    with contextlib.suppress(ValueError, BeamIOError):
        FileSystems.report_sink_lineage(_named(path))


def report_images(uris: Iterable[str], most: int = MOST) -> None:
    """Reports the directories and buckets of images."""
    found: set[str] = set()
    for uri in uris:
        if len(found) >= most:
            break
        found.add(container(uri))
    for path in sorted(found):
        report_read(path)


def reporting(lists: Iterable[list[ImageRef]], most: int = MOST) -> Iterator[list[ImageRef]]:
    """Yields lists of references, and reports the directories and buckets of those that may be read."""
    found: set[str] = set()
    for references in lists:
        if len(found) < most:
            new = {container(one.uri) for one in references if not one.refused} - found
            report_images([os.path.join(path, "") for path in sorted(new)], most - len(found))
            found |= new
        yield references


def container(uri: str) -> str:
    """Returns the bucket of an object, or the directory of a local file.

    >>> container("gs://bucket/a/b.jpg"), container("/a/b.jpg"), container("gs://bucket/")
    ('gs://bucket/', '/a', 'gs://bucket/')
    """
    if is_remote(uri):
        scheme, _, rest = uri.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}/"
    return os.path.dirname(uri) or "."


def _named(path: str) -> str:
    """Returns a path as lineage names it: a local one is absolute, and no surrogates are in it."""
    plain = path.encode("utf-8", "backslashreplace").decode("utf-8")
    if not is_remote(path):
        return os.path.abspath(plain)
    scheme, _, rest = plain.partition("://")
    return plain if "/" in rest else f"{scheme}://{rest}/"  # of a bucket; without the slash Beam refuses it
