"""Images in a store that takes its time to answer: fetched many at once, one at a time, and read from a disk.

    .venv/bin/python -m benchmarks.store FOLDER [--count 2000] [--delay 0.03] [-j 2]

FOLDER: different JPEGs, as `benchmarks.pictures web` makes them. They go into the storage emulator of the tests (`make services`), and each
request to it is held up by --delay seconds on its way. Timed are whole runs of `dedup -n`. The emulator has a share of the same
cores, and takes longer for a request than a decoder for a picture: what it can do itself is told as well, by reading alone.
"""

import argparse
import asyncio
import contextlib
import functools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks import report
from tests.services import servers
from tests.services.buckets import Bucket, google_bucket
from tests.services.processes import HOST, answers, free_port
from transforms.storage import objects, prefetch

_AS_DEDUP = "--as-dedup"
_EMULATOR = "STORAGE_EMULATOR_HOST"
_BYTES = 1 << 16


def main(argv: list[str] | None = None) -> None:
    if argv is None and sys.argv[1:2] == [_AS_DEDUP]:
        from beam_dedup.cli import main as dedup

        prefetch.AT_ONCE = int(sys.argv[2])
        sys.exit(dedup(sys.argv[3:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--delay", type=float, default=0.03)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args(argv)
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())[: options.count]
    head = report.header()
    with tempfile.TemporaryDirectory() as folder, servers.gcs() as service:
        for number, path in enumerate(files):
            os.symlink(path.resolve(), Path(folder, f"{number}.jpg"))
        bucket = google_bucket(service)
        bucket.fill({f"{number}.jpg": path.read_bytes() for number, path in enumerate(files)})
        with delaying(int(service.url.rpartition(":")[2]), options.delay) as url:
            os.environ[_EMULATOR] = url
            reading = [(f"reading alone, {at_once} at once", read(bucket, at_once)) for at_once in (1, 32)]
            run = functools.partial(whole_run, options.jobs, service.flags)
            rows = [
                *reading,
                ("`dedup -n`, one at a time", run(1, bucket.uri)),
                (f"`dedup -n`, {prefetch.AT_ONCE} at once", run(prefetch.AT_ONCE, bucket.uri)),
                ("`dedup -n` from a disk", run(prefetch.AT_ONCE, folder)),
            ]
    print(f"{head} {len(files):,} files, each request held up by {options.delay * 1000:.0f} ms.\n")
    shown = [[name, f"{seconds:.1f}", f"{len(files) / seconds:,.0f}"] for name, seconds in rows]
    print(report.table(["what", "s", "images/s"], shown))


@contextlib.contextmanager
def delaying(port: int, delay: float) -> Iterator[str]:
    """A server that hands on to another what it is told, after a while, and the answers at once: its URL."""
    chosen = free_port()
    process = multiprocessing.Process(target=_delay, args=(chosen, port, delay), daemon=True)
    process.start()
    while not answers(chosen):
        time.sleep(0.05)
    try:
        yield f"http://{HOST}:{chosen}"
    finally:
        process.kill()
        process.join()


def _delay(chosen: int, port: int, delay: float) -> None:
    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after: float) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_BYTES):
                await asyncio.sleep(after)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, port)
        await asyncio.gather(hand_on(reader, back, delay), hand_on(there, writer, 0))

    async def run() -> None:
        server = await asyncio.start_server(serve, HOST, chosen)
        await server.serve_forever()

    asyncio.run(run())


def read(bucket: Bucket, at_once: int) -> float:
    """Seconds to read all objects in so many threads."""
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    paths = list(objects.list_objects(f"{bucket.uri}/"))
    begun = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(_read, paths):
            pass
    return time.monotonic() - begun


def _read(path: str) -> bytes:
    with objects.open_object(path) as stream:
        return stream.read()


def whole_run(jobs: int, flags: tuple[str, ...], at_once: int, images: str) -> float:
    """Seconds of a whole run."""
    command = [sys.executable, "-m", "benchmarks.store", _AS_DEDUP, str(at_once)]
    command += ["-n", "-i", images, "-o", "", "-j", str(jobs), "--quiet", *flags]
    begun = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
