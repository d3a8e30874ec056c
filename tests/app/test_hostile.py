"""Tests a run over damaged, oversized and mislabelled files: it ends normally and writes a record for each."""

import json
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import REASONS
from tests.app.cli_runs import COMMAND, ROOT
from tests.pictures import encoded, photo

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "ICO", "PPM", "JPEG2000", "HEIF")
PER_FORMAT = 40
MAX_MEMORY_BYTES = 1 << 30
# Runs a command and prints the memory of its largest process. A process of its own, since this one has children of other tests.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def mangled(data: bytes, rng: random.Random) -> bytes:
    """Damages a file: flips bits, deletes or repeats a range, overwrites it, truncates, or writes a huge number."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(out)) if rng.random() < 0.5 else rng.randrange(min(len(out), 64))
        length = rng.choice([1, 2, 4, 16, 200])
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = out[at : at + length]
            case 3:
                out[at : at + length] = rng.randbytes(length)
            case 4:
                out[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)])
            case _:
                del out[max(at, 1) :]
        if not out:
            break
    return bytes(out)


def bomb(width: int, height: int) -> bytes:
    """Returns a PNG of many pixels in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    deflate = zlib.compressobj(9)
    body = b"".join(deflate.compress(bytes(width // 8 + 1)) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def hostile_files() -> dict[str, bytes]:
    """Returns the files by name: a few made by hand, and `PER_FORMAT` damaged ones of each format."""
    prepare_decoders()
    picture = photo(1, (96, 64))
    files = {
        "bomb.png": bomb(40_000, 30_000),
        "wide.png": bomb(10_000_000, 2),
        "text in metadata.png": _with_text(encoded(picture), 50_000_000),
        "many frames.gif": encoded(
            Image.new("L", (1, 1)), "GIF", save_all=True, append_images=[Image.new("L", (1, 1), n) for n in range(1, 256)] * 20
        ),
        "page.jpg": b"<html><body>404 not found</body></html>",
        "empty.jpg": b"",
        "name\nwith\tall\x7f.jpg": encoded(picture, "JPEG"),
    }  # fmt: skip
    for image_format in FORMATS:
        whole = encoded(picture, image_format)
        rng = random.Random(image_format)
        for number in range(PER_FORMAT):
            files[f"{image_format}{number}"] = mangled(whole, rng)
    return files


def _with_text(png: bytes, length: int) -> bytes:
    """A PNG with a compressed comment of this many bytes."""
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(length), 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("flag", ["-n", "-e"])
def test_every_file_gets_its_record(flag: str, tmp_path: Path) -> None:
    files = hostile_files()
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    records = tmp_path / "records.jsonl"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURED,
            *COMMAND,
            flag,
            "-i",
            str(folder),
            "-o",
            "",
            "--records",
            str(records),
            "--quiet",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    found = [json.loads(line) for line in records.read_text("utf-8").splitlines()]
    assert sorted(Path(record["uri"]).name for record in found) == sorted(files)
    for record in found:
        assert record["reason"] is None or record["reason"] in REASONS
        if record["status"] == "kept":
            assert record["duplicate_of"] is None
    rejected = {
        Path(record["uri"]).name: record["reason"] for record in found if record["status"] == "rejected"
    }
    assert rejected["empty.jpg"] == "empty"
    assert rejected["page.jpg"] == "not_an_image"
    assert len(rejected) < len(files) / 3, "most can still be read as images"
    unit = 1 if sys.platform == "darwin" else 1024
    assert 1 << 20 < int(done.stdout) * unit < MAX_MEMORY_BYTES
