"""Makes files for tests: pictures, and files that only look like pictures."""

import io
from pathlib import Path
from typing import Any

from beam_dedup.core.model import ImageRef
from beam_dedup.samples import picture

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def encoded(seed: int, form: str = "PNG", size: tuple[int, int] = (96, 64), **options: Any) -> bytes:
    """Returns the encoded bytes of picture number `seed`."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, form, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    """Writes a file and the directories above it. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def ref(path: Path | str, name: str = "") -> ImageRef:
    """Returns a reference to a file; the name of its copy is its base name unless given."""
    return ImageRef(str(path), name or Path(path).name)
