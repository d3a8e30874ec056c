"""A run on a failing disk: the C library of each process of the run reports that part of a file can't be read."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.app.cli_runs import dedup_apart, records_in, tree
from tests.pictures import encoded, photo

BAD_FROM = 32768
# Fails each read from a byte on of files with BADDISK_ in their names. A read before that byte is short, as on Linux.
BAD_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *buffer, size_t size) {
  static ssize_t (*real)(int, void *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "read");
  char link[64], name[4096];
  snprintf(link, 64, "/proc/self/fd/%d", fd);
  ssize_t length = fd > 2 ? readlink(link, name, 4095) : -1;
  if (length > 0) {
    name[length] = 0;
    if (strstr(name, "BADDISK_")) {
      off_t at = lseek(fd, 0, SEEK_CUR);
      if (at >= BAD_FROM) { errno = EIO; return -1; }
      if (at + (off_t)size > BAD_FROM) size = BAD_FROM - at;
    }
  }
  return real(fd, buffer, size);
}
"""


@pytest.fixture
def bad_disk(tmp_path: Path) -> Path:
    """The library that makes the disk bad, for LD_PRELOAD."""
    compiler = shutil.which("gcc")
    if compiler is None or not os.path.isdir("/proc/self/fd"):
        pytest.skip(
            "needs gcc and Linux; the same is tested without them in tests/core/reading/test_short_reads.py"
        )
    source, library = tmp_path / "bad_disk.c", tmp_path / "bad_disk.so"
    source.write_text(BAD_DISK)
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-DBAD_FROM={BAD_FROM}", "-o", library, source, "-ldl"], check=True
    )
    return library


@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_files_that_differ_only_after_a_bad_sector_are_unreadable_and_others_are_placed(
    mode: str, tmp_path: Path, bad_disk: Path
) -> None:
    folder, out, records = tmp_path / "in", tmp_path / "out", tmp_path / "r.jsonl"
    folder.mkdir()
    for number in range(2):
        image = Image.new("RGB", (300, 400))
        image.paste(photo(9, (300, 200)), (0, 200))  # stored first
        image.paste(photo(number, (300, 200)), (0, 0))
        (folder / f"BADDISK_scan{number}.bmp").write_bytes(encoded(image, "BMP"))
    (folder / "ok.png").write_bytes(encoded(photo(5)))
    environment = {**os.environ, "LD_PRELOAD": str(bad_disk)}
    done = dedup_apart(mode, "-i", folder, "-o", "", "--records", records, "-d", out, env=environment)
    assert done.returncode == 0, done.stderr
    assert "unreadable           2" in done.stdout
    found = {
        name: (one["status"], one["reason"], one["digest"] is None)
        for name, one in records_in(records).items()
    }
    assert found == {
        "BADDISK_scan0.bmp": ("rejected", "unreadable", True),
        "BADDISK_scan1.bmp": ("rejected", "unreadable", True),
        "ok.png": ("kept", None, False),
    }
    assert list(tree(out)) == ["ok.png"]
