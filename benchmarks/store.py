"""Measures `dedup -n` on images in a store with high latency: fetched concurrently, one at a time, and read from a disk.

    .venv/bin/python -m benchmarks.store FOLDER [--count 2000] [--delay 0.03] [-j 2]

FOLDER is a directory of different JPEGs, such as `benchmarks.pictures web` makes. The images are copied into the storage
emulator of the tests (`make services`); a proxy delays each request to it by --delay seconds. The times are those of whole
runs. The emulator uses the same cores, and takes longer for a request than a decoder for a picture: so the time to read
all images without judging them is measured as well.
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

_AS_DEDUP = "--as-dedup"  # makes this program run `dedup` with a given number of concurrent reads
_EMULATOR = "STORAGE_EMULATOR_HOST"
_CHUNK_BYTES = 1 << 16


def main(argv: list[str] | None = None) -> None:
    if argv is None and sys.argv[1:2] == [_AS_DEDUP]:
        from beam_dedup.cli import main as dedup

        prefetch.AT_ONCE = int(sys.argv[2])
        sys.exit(dedup(sys.argv[3:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="directory of different JPEGs")
    parser.add_argument("--count", type=int, default=2000, help="number of images")
    parser.add_argument("--delay", type=float, default=0.03, help="seconds added to each request")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes")
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
    print(f"{head} {len(files):,} files, each request delayed by {options.delay * 1000:.0f} ms.\n")
    shown = [[name, f"{seconds:.1f}", f"{len(files) / seconds:,.0f}"] for name, seconds in rows]
    print(report.table(["what", "s", "images/s"], shown))


@contextlib.contextmanager
def delaying(port: int, delay: float) -> Iterator[str]:
    """Runs a proxy for a local port that forwards requests after a delay, and answers at once. Yields its URL."""
    own_port = free_port()
    process = multiprocessing.Process(target=_forward, args=(own_port, port, delay), daemon=True)
    process.start()
    while not answers(own_port):
        time.sleep(0.05)
    try:
        yield f"http://{HOST}:{own_port}"
    finally:
        process.kill()
        process.join()


def _forward(own_port: int, port: int, delay: float) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after: float) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                await asyncio.sleep(after)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(copy(reader, server_writer, delay), copy(server_reader, writer, 0))

    async def run() -> None:
        server = await asyncio.start_server(serve, HOST, own_port)
        await server.serve_forever()

    asyncio.run(run())


def read(bucket: Bucket, at_once: int) -> float:
    """Returns the seconds it takes to read all objects in `at_once` threads."""
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    paths = list(objects.list_objects(f"{bucket.uri}/"))
    start = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(_read, paths):
            pass
    return time.monotonic() - start


def _read(path: str) -> bytes:
    with objects.open_object(path) as stream:
        return stream.read()


def whole_run(jobs: int, flags: tuple[str, ...], at_once: int, images: str) -> float:
    """Returns the seconds of a whole run that fetches `at_once` images concurrently."""
    command = [sys.executable, "-m", "benchmarks.store", _AS_DEDUP, str(at_once)]
    command += ["-n", "-i", images, "-o", "", "-j", str(jobs), "--quiet", *flags]
    start = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
