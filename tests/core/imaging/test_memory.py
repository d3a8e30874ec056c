"""Pictures that can't be decoded for lack of memory are flagged: no picture is taken for another."""

import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from beam_dedup.core import limits
from beam_dedup.core.imaging import fingerprint, truncated
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import Flag
from tests.pictures import encoded, fingerprint_of, photo

ROOT = Path(__file__).parents[3]
EXTRA_MB = (2, 6, 12, 24)
# Fingerprints some files: each without a limit on memory, then with `EXTRA_MB` more than the process has. Each
# time in a new process, which has no free memory of earlier decoding.
LIMITED = f"""
import json, multiprocessing, resource, sys
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from tests.pictures import fingerprint_of

def result(path, extra):
    with open(path, "rb") as file:
        data = file.read()
    if extra:
        with open("/proc/self/status") as status:
            kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
        limit = (kilobytes << 10) + (extra << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    try:
        found = fingerprint_of(data)
    except MemoryError:  # rejected by the caller
        found = None
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    return found and [list(found.flags), [code.data.hex() for code in found.codes]]

prepare_decoders()
tasks = [(path, extra) for path in sys.argv[1:] for extra in (0, *{EXTRA_MB})]
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(pool.starmap(result, tasks, chunksize=1)))
"""
# JPEG is decoded at 1/8 of its size and needs hardly any memory; all coefficients of a progressive one are held.
FILES = {
    "progressive": ("JPEG", {"progressive": True}),
    **{name: (name, {}) for name in ("PNG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "HEIF", "BMP")},
}


@pytest.mark.skipif(
    sys.platform != "linux" or resource.getrlimit(resource.RLIMIT_DATA)[1] != resource.RLIM_INFINITY,
    reason="needs Linux and no limit on memory",
)
def test_picture_is_decoded_as_always_or_flagged_whatever_the_memory(tmp_path: Path) -> None:
    """Many decoders report a lack of memory like damage of the file."""
    prepare_decoders()
    picture = photo(1, (1200, 900))
    for name, (image_format, options) in FILES.items():
        (tmp_path / name).write_bytes(encoded(picture, image_format, **options))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *(tmp_path / name for name in FILES)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=True,
    )
    results = iter(json.loads(done.stdout))
    affected = set()
    for name in FILES:
        unlimited, *limited = itertools.islice(results, 1 + len(EXTRA_MB))
        assert unlimited[0] == []
        assert unlimited[1]
        flagged = [[Flag.UNDECODABLE, Flag.OUT_OF_MEMORY], []]
        assert [one for one in limited if one not in (unlimited, flagged, None)] == [], name
        affected |= {name} if flagged in limited else set()
    assert len(affected) > len(FILES) / 2, "the limits had hardly any effect"


def test_out_of_memory_in_a_decoder_or_in_our_arithmetic_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    data = encoded(photo(), "JPEG", exif=b"Exif\0\0" + bytes(8))
    for module, name in ((truncated, "has_end"), (fingerprint, "square"), (Image.Image, "getexif")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, greedy)
            found = fingerprint_of(data)
        assert (found.flags, found.codes) == ((Flag.UNDECODABLE, Flag.OUT_OF_MEMORY), ()), name
        assert (found.detail, found.format, len(found.digest)) == ("out of memory", "JPEG", 32)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_damaged_file_is_flagged_only_where_memory_is_short(
    image_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the cause is not known. A part of a picture is compared only if the rest is certain to be missing."""
    whole = encoded(photo(), image_format)
    data = whole[: len(whole) * 95 // 100]
    assert Flag.OUT_OF_MEMORY not in fingerprint_of(data).flags
    monkeypatch.setattr(limits, "is_memory_short", lambda: True)
    found = fingerprint_of(data)
    assert (found.flags, found.codes) == ((Flag.UNDECODABLE, Flag.OUT_OF_MEMORY), ())
    assert found.detail.endswith("; or out of memory")
    assert fingerprint_of(whole).flags == ()
    assert fingerprint_of(b"%PDF-1.7\n").flags == (Flag.UNDECODABLE,), "no memory would help"


@pytest.mark.parametrize(
    ("data", "addresses", "short"),
    [
        (-1, -1, False),
        (limits.MEMORY_BYTES, 1 << 40, False),
        (limits.MEMORY_BYTES - 1, -1, True),
        (-1, limits.MEMORY_BYTES, True),
        (-1, 2 << 30, False),
    ],
)
def test_memory_is_short_below_what_the_largest_picture_takes(
    data: int, addresses: int, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_kind = {resource.RLIMIT_DATA: data, resource.RLIMIT_AS: addresses}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (by_kind[kind], -1))
    assert limits.is_memory_short() == short
