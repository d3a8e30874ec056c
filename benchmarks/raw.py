"""Does the least work that a run must do with its files, in bare processes: the limit to which runs are compared.

    python -m benchmarks.raw FOLDER [-j 2] [--digests]

Reads each file, and computes its SHA-256 and, without --digests, the 256 bits of the default recipe: one decode by
`draft` to 128 pixels, grey, one bilinear resize to 64 x 64, one DCT as a matrix product, bits above 2 grey levels. Shares no
code with the fingerprints of the package. Checks nothing, handles no errors, compares nothing. Prints the number of
files, of different digests and of different codes.
"""

import argparse
import hashlib
import io
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

_BATCH = 64  # files per task of a process
_DRAFT, _SIDE, _COEFFICIENTS, _DEAD_ZONE = 128, 64, 16, 2.0

_ROWS = np.arange(1, _COEFFICIENTS + 1)[:, None]
_DCT = np.sqrt(2 / _SIDE) * np.cos(np.pi / _SIDE * _ROWS * (np.arange(_SIDE) + 0.5))

Result = tuple[bytes, bytes]  # digest, code


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="directory of images")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes")
    parser.add_argument("--digests", action="store_true", help="compute SHA-256 only, decode nothing")
    options = parser.parse_args()
    print(summary(results(options.folder, options.jobs, options.digests)))


def results(folder: Path, jobs: int, digests: bool) -> list[Result]:
    """Returns the digest and the code of each file below a directory; with `digests`, empty codes."""
    names = files_below(str(folder))
    batches = [names[i : i + _BATCH] for i in range(0, len(names), _BATCH)]
    with ProcessPoolExecutor(jobs) as pool:
        work = digest_all if digests else fingerprint_all
        return [result for batch in pool.map(work, batches) for result in batch]


def files_below(folder: str) -> list[str]:
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


def digest_all(names: list[str]) -> list[Result]:
    return [(hashlib.sha256(read(name)).digest(), b"") for name in names]


def fingerprint_all(names: list[str]) -> list[Result]:
    return [fingerprint(read(name)) for name in names]


def fingerprint(data: bytes) -> Result:
    """Returns the digest and the code of one file."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", (_DRAFT, _DRAFT))
        small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    coefficients = _DCT @ np.asarray(small, dtype=np.float64) @ _DCT.T
    return hashlib.sha256(data).digest(), np.packbits(coefficients > _DEAD_ZONE).tobytes()


def read(name: str) -> bytes:
    with open(name, "rb", buffering=0) as file:
        return file.read()


def summary(found: list[Result]) -> str:
    digests, codes = ({result[at] for result in found} for at in (0, 1))
    return f"{len(found)} files, {len(digests)} digests, {len(codes - {b''})} codes"


if __name__ == "__main__":
    main()
