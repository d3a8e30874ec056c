"""Films: their frames are counted without decoding, and they match films of as many frames and the same length only."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging import animation
from beam_dedup.core.imaging.animation import Motion, motion_of
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import Flag
from tests.pictures import bits_apart, encoded, fingerprint_of, photo

prepare_decoders()
FRAMES = [photo(seed) for seed in range(5)]
FILMS = ("GIF", "PNG", "WEBP")


def film(image_format: str, frames: list[Image.Image], duration: int | list[int] = 120) -> bytes:
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=duration)


def moves(data: bytes) -> Motion | None:
    stream = io.BytesIO(data)
    image = Image.open(stream)
    before = stream.tell()
    found = motion_of(stream, image)
    assert stream.tell() == before
    return found


@pytest.mark.parametrize("image_format", FILMS)
def test_frames_and_length(image_format: str) -> None:
    assert moves(film(image_format, FRAMES)) == Motion(5, 600)
    assert moves(film(image_format, FRAMES[:2], [40, 1000])) == Motion(2, 1040)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "JPEG", "BMP"])
def test_stills(image_format: str) -> None:
    assert moves(encoded(FRAMES[0], image_format)) is None


def test_pages_and_sequences_count_as_frames() -> None:
    assert moves(encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:3])) == Motion(3, 0)
    assert moves(encoded(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:3])) == Motion(3, 0)


@pytest.mark.parametrize("image_format", FILMS)
def test_as_pillow_counts(image_format: str) -> None:
    """Frames that are parts of the picture, with other delays and palettes."""
    rng = random.Random(image_format)
    frames = [FRAMES[0]]
    for _ in range(rng.randint(3, 9)):
        frame = frames[-1].copy()
        frame.paste(FRAMES[1].resize((30, 20)), (rng.randint(0, 200), rng.randint(0, 200)))
        frames.append(frame)
    data = film(image_format, frames, [rng.randint(1, 40) * 10 for _ in frames])
    image = Image.open(io.BytesIO(data))
    lengths = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        image.load()
        lengths.append(image.info["duration"])
    assert moves(data) == Motion(len(lengths), sum(int(length) for length in lengths))


@pytest.mark.parametrize("image_format", FILMS)
def test_a_still_does_not_match_the_film_that_begins_with_it(image_format: str) -> None:
    one, same = (fingerprint_of(film(image_format, FRAMES)) for _ in range(2))
    assert one.flags == (Flag.ANIMATED,)
    assert one.detail == "5 frames, 600 ms"
    still = fingerprint_of(encoded(FRAMES[0], image_format))
    assert bits_apart(one.codes[0], still.codes[0]) > 90
    assert one.codes == same.codes
    for other in (film(image_format, FRAMES[:4]), film(image_format, FRAMES, 130)):
        assert bits_apart(one.codes[0], fingerprint_of(other).codes[0]) > 90


def test_films_of_one_length_are_as_far_apart_as_their_first_frames() -> None:
    small = [frame.resize((160, 120)) for frame in FRAMES]
    films = [fingerprint_of(film("PNG", frames)).codes[0] for frames in (FRAMES, small)]
    stills = [fingerprint_of(encoded(frames[0], "PNG")).codes[0] for frames in (FRAMES, small)]
    assert bits_apart(*films) == bits_apart(*stills) <= 24


def test_mixing_keeps_distances_and_is_undone_by_itself() -> None:
    rng = np.random.default_rng(1)
    for length in (8, 32):
        one, other = rng.bytes(length), rng.bytes(length)
        moving = Motion(3, 500)
        mixed = [int.from_bytes(moving.mixed(code)) for code in (one, other)]
        assert (mixed[0] ^ mixed[1]).bit_count() == (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()
        assert moving.mixed(moving.mixed(one)) == one
        assert len(moving.mixed(one)) == length
    # The short code of a tiny picture must meet that of a whole one.
    assert Motion(3, 500).mixed(bytes(32))[:8] == Motion(3, 500).mixed(bytes(8))


def test_a_plain_first_frame_tells_nothing_of_the_film() -> None:
    black = Image.new("RGB", (200, 200))
    faded_in = fingerprint_of(film("GIF", [black, FRAMES[0].resize((200, 200))]))
    assert faded_in.flags == (Flag.ANIMATED,)
    assert not faded_in.codes


def test_other_algorithms_compare_films_by_digest() -> None:
    """Their codes are stored by others, who took the first frame for the film."""
    found = fingerprint_of(film("GIF", FRAMES), recipe=Recipe("phash", "none"))
    assert found.flags == (Flag.ANIMATED,)
    assert not found.codes


def test_structures_that_end_anywhere_can_be_followed() -> None:
    for image_format in FILMS:
        data = film(image_format, [frame.resize((40, 30)) for frame in FRAMES])
        counts = []
        for length in range(len(data)):
            stream = io.BytesIO(data[:length])
            match image_format:
                case "GIF":
                    counts.append(sum(delay is not None for delay in animation.gif_delays(stream)))
                case "PNG":
                    counts.append(len(list(animation._png(stream))))
                case "WEBP":
                    counts.append(len(list(animation._webp(stream))))
        assert counts == sorted(counts)
        assert counts[-1] == 5


def test_too_many_frames_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "MAX_FRAMES", 3)
    for image_format in (*FILMS, "TIFF"):
        data = (
            film(image_format, FRAMES)
            if image_format != "TIFF"
            else encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:])
        )
        with pytest.raises(DecodeError, match="more than 3 frames"):
            moves(data)
