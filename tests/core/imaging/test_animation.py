"""Animations: frames are counted without decoding, and only animations of equal frames and duration match."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging import animation
from beam_dedup.core.imaging.animation import Animation, animation_of
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import Flag
from tests.pictures import bits_apart, encoded, fingerprint_of, photo

prepare_decoders()
FRAMES = [photo(seed) for seed in range(5)]
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP")


def animated(image_format: str, frames: list[Image.Image], duration: int | list[int] = 120) -> bytes:
    """Returns the file of an animation; the duration is in milliseconds a frame."""
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=duration)


def found_in(data: bytes, max_frames: int = animation.MAX_FRAMES) -> Animation | None:
    """Returns the animation in a file, and checks that the position of the stream is unchanged."""
    stream = io.BytesIO(data)
    image = Image.open(stream)
    before = stream.tell()
    found = animation_of(stream, image, max_frames)
    assert stream.tell() == before
    return found


@pytest.mark.parametrize("image_format", ANIMATED_FORMATS)
def test_frame_count_and_duration_are_read(image_format: str) -> None:
    assert found_in(animated(image_format, FRAMES)) == Animation(5, 600)
    assert found_in(animated(image_format, FRAMES[:2], [40, 1000])) == Animation(2, 1040)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "JPEG", "BMP"])
def test_still_is_no_animation(image_format: str) -> None:
    assert found_in(encoded(FRAMES[0], image_format)) is None


def test_pages_and_image_sequences_count_as_frames() -> None:
    assert found_in(encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:3])) == Animation(3, 0)
    assert found_in(encoded(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:3])) == Animation(3, 0)


@pytest.mark.parametrize("image_format", ANIMATED_FORMATS)
def test_frame_count_and_duration_equal_pillows(image_format: str) -> None:
    """Frames may cover a part of the picture only, and have delays and palettes of their own."""
    rng = random.Random(image_format)
    frames = [FRAMES[0]]
    for _ in range(rng.randint(3, 9)):
        frame = frames[-1].copy()
        frame.paste(FRAMES[1].resize((30, 20)), (rng.randint(0, 200), rng.randint(0, 200)))
        frames.append(frame)
    data = animated(image_format, frames, [rng.randint(1, 40) * 10 for _ in frames])
    image = Image.open(io.BytesIO(data))
    lengths = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        image.load()
        lengths.append(image.info["duration"])
    assert found_in(data) == Animation(len(lengths), sum(int(length) for length in lengths))


@pytest.mark.parametrize("image_format", ANIMATED_FORMATS)
def test_still_does_not_match_animation_that_begins_with_it(image_format: str) -> None:
    one, same = (fingerprint_of(animated(image_format, FRAMES)) for _ in range(2))
    assert one.flags == (Flag.ANIMATED,)
    assert one.detail == "5 frames, 600 ms"
    still = fingerprint_of(encoded(FRAMES[0], image_format))
    assert bits_apart(one.codes[0], still.codes[0]) > 90
    assert one.codes == same.codes
    for other in (animated(image_format, FRAMES[:4]), animated(image_format, FRAMES, 130)):
        assert bits_apart(one.codes[0], fingerprint_of(other).codes[0]) > 90


def test_distance_of_animations_of_equal_length_is_that_of_their_first_frames() -> None:
    small = [frame.resize((160, 120)) for frame in FRAMES]
    animations = [fingerprint_of(animated("PNG", frames)).codes[0] for frames in (FRAMES, small)]
    stills = [fingerprint_of(encoded(frames[0], "PNG")).codes[0] for frames in (FRAMES, small)]
    assert bits_apart(*animations) == bits_apart(*stills) <= 24


def test_mixing_preserves_distances_and_is_its_own_inverse() -> None:
    rng = np.random.default_rng(1)
    for length in (8, 32):
        one, other = rng.bytes(length), rng.bytes(length)
        three = Animation(3, 500)
        mixed = [int.from_bytes(three.mixed(code)) for code in (one, other)]
        assert (mixed[0] ^ mixed[1]).bit_count() == (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()
        assert three.mixed(three.mixed(one)) == one
        assert len(three.mixed(one)) == length
    # The short code of a tiny picture is compared with the short code of an ordinary one.
    assert Animation(3, 500).mixed(bytes(32))[:8] == Animation(3, 500).mixed(bytes(8))


def test_animation_with_flat_first_frame_has_no_code() -> None:
    black = Image.new("RGB", (200, 200))
    faded_in = fingerprint_of(animated("GIF", [black, FRAMES[0].resize((200, 200))]))
    assert faded_in.flags == (Flag.ANIMATED,)
    assert not faded_in.codes


def test_other_algorithms_give_animations_no_code() -> None:
    """Their codes must equal those computed elsewhere, where an animation has the code of its first frame."""
    found = fingerprint_of(animated("GIF", FRAMES), recipe=Recipe("phash", "none"))
    assert found.flags == (Flag.ANIMATED,)
    assert not found.codes


def test_frames_before_any_truncation_are_counted() -> None:
    for image_format in ANIMATED_FORMATS:
        data = animated(image_format, [frame.resize((40, 30)) for frame in FRAMES])
        counts = []
        for length in range(len(data)):
            stream = io.BytesIO(data[:length])
            match image_format:
                case "GIF":
                    counts.append(sum(delay is not None for delay in animation.gif_delays(stream)))
                case "PNG":
                    counts.append(len(list(animation.png_delays(stream))))
                case "WEBP":
                    counts.append(len(list(animation.webp_delays(stream))))
        assert counts == sorted(counts)
        assert counts[-1] == 5


def test_too_many_frames_raise() -> None:
    for image_format in (*ANIMATED_FORMATS, "TIFF"):
        data = (
            animated(image_format, FRAMES)
            if image_format != "TIFF"
            else encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:])
        )
        with pytest.raises(DecodeError, match="more than 3 frames"):
            found_in(data, max_frames=3)
