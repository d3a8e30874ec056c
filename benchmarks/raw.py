"""The limit that a run is measured against: the least that must be done with the files, in bare processes.

    python -m benchmarks.raw FOLDER [-j 2] [--digests]

Reads each file, takes its SHA-256 and, without --digests, a picture's 256 bits by the default recipe: one decode
by `draft` to 128 pixels, grey, one bilinear resize to 64 x 64, one DCT by matrices, bits above 2 grey levels. Shares
no code with the fingerprints that it is a limit of; there is no check, no listing of errors, no comparison of what was
found. Prints how many files, different digests and different codes there were.
"""

import argparse
import hashlib
import io
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

_BATCH = 64
_DRAFT, _SIDE, _COEFFICIENTS, _DEAD_ZONE = 128, 64, 16, 2.0

_ROWS = np.arange(1, _COEFFICIENTS + 1)[:, None]
_DCT = np.sqrt(2 / _SIDE) * np.cos(np.pi / _SIDE * _ROWS * (np.arange(_SIDE) + 0.5))

Found = tuple[bytes, bytes]  # digest, code


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--digests", action="store_true", help="no pictures: SHA-256 only")
    options = parser.parse_args()
    print(told(results(options.folder, options.jobs, options.digests)))


def results(folder: Path, jobs: int, digests: bool) -> list[Found]:
    names = files_below(str(folder))
    batches = [names[i : i + _BATCH] for i in range(0, len(names), _BATCH)]
    with ProcessPoolExecutor(jobs) as pool:
        return [found for batch in pool.map(digest_all if digests else judge_all, batches) for found in batch]


def files_below(folder: str) -> list[str]:
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


def digest_all(names: list[str]) -> list[Found]:
    return [(hashlib.sha256(read(name)).digest(), b"") for name in names]


def judge_all(names: list[str]) -> list[Found]:
    return [judge(read(name)) for name in names]


def judge(data: bytes) -> Found:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", (_DRAFT, _DRAFT))
        small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    coefficients = _DCT @ np.asarray(small, dtype=np.float64) @ _DCT.T
    return hashlib.sha256(data).digest(), np.packbits(coefficients > _DEAD_ZONE).tobytes()


def read(name: str) -> bytes:
    with open(name, "rb", buffering=0) as file:
        return file.read()


def told(found: list[Found]) -> str:
    digests, codes = ({pair[at] for pair in found} for at in (0, 1))
    return f"{len(found)} files, {len(digests)} digests, {len(codes - {b''})} codes"


if __name__ == "__main__":
    main()
