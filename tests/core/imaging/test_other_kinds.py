"""Files that are no images are named by their first bytes."""

import io
import json
import sqlite3
import tarfile
import wave
import zipfile
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest

from beam_dedup.core.imaging import formats, other_kinds
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.imaging.other_kinds import KINDS, format_of

TABLE = pa.table({"path": ["a.jpg"]})


def made(name: str, path: Path) -> bytes:
    """Makes a file by the library for its format."""
    match name:
        case "Parquet":
            pyarrow.parquet.write_table(TABLE, path)
        case "ORC":
            pyarrow.orc.write_table(TABLE, path)
        case "Arrow":
            pyarrow.feather.write_feather(TABLE, path)
        case "Avro":
            with path.open("wb") as file:
                fastavro.writer(file, {"type": "record", "name": "R", "fields": []}, [{}])
        case "NumPy":
            np.save(path.open("wb"), np.zeros(3))
        case "SQLite":
            with sqlite3.connect(path) as database:
                database.execute("create table t (x)")
        case "ZIP":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x", "x")
        case "WAV":
            with wave.open(str(path), "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(1)
                sound.setframerate(8000)
        case "JSON":
            path.write_text(json.dumps([{"a": "å"}]))
    return path.read_bytes()


@pytest.mark.parametrize("name", ["Parquet", "ORC", "Arrow", "Avro", "NumPy", "SQLite", "ZIP", "WAV", "JSON"])
def test_files_of_libraries(name: str, tmp_path: Path) -> None:
    assert format_of(made(name, tmp_path / "file")[:HEAD_BYTES]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x00\x00\x00\x20ftypisom", "MP4"),
        (b"\x00\x00\x00\x14ftypqt  ", "QuickTime"),
        (b"\x00\x00\x00\x14ftyp3gp4", "3GP"),
        (b"\x00\x00\x00\x14ftypM4A ", "M4A"),
        (b"\x00\x00\x00\x08wide\x00\x00", "QuickTime"),
        (b"\x1aE\xdf\xa3\x01\x00", "Matroska"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "AVI"),
        (b"ID3\x03", "MP3"),
        (b"FEA1\x00", "Feather"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "7-Zip"),
        (b"Rar!\x1a\x07\x01\x00", "RAR"),
        (b"<?xpacket begin", "XMP"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<x:xmpmeta>", "XMP"),
        (b"<?xml version='1.0'?><plist>", "XML"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"<?xml version='1.0'?><html>", "HTML"),
        (b"\n {", "JSON"),
        (b"a,b\r\n1,2\r\n", "plain"),
        ("å".encode(), "plain"),
        (b"\x7fELF\x02", "ELF"),
        (b"MZ\x90", "Windows"),
        ("åäö".encode("latin-1"), ""),
        (b"text\x00", ""),
        (bytes(range(256)), ""),
        (b"\xff\xd8", ""),
    ],
)
def test_first_bytes(head: bytes, name: str) -> None:
    assert format_of(head) == name


@pytest.mark.parametrize("before", range(4))
def test_text_that_is_cut_within_a_letter(before: int) -> None:
    head = (b"x" * before + "😀".encode() * HEAD_BYTES)[:HEAD_BYTES]
    assert format_of(head) == "plain"
    assert format_of(head[:-1] + b"\xff") == format_of(head[:100] + b"\xff" + head[101:]) == ""


def test_every_name_has_a_kind_and_no_image_format_is_among_them() -> None:
    named = {name for _, _, name in other_kinds._SIGNATURES} | set(other_kinds._BRANDS.values())
    assert named <= KINDS.keys()
    images = {name for _, _, name in formats._SIGNATURES} | set(formats._BRANDS.values())
    assert not images & KINDS.keys()


def test_archives_that_are_read_are_no_other_kind(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    assert format_of((tmp_path / "a.tar").read_bytes()[:HEAD_BYTES]) == ""
