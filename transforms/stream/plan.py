"""Chooses how a stream finds near duplicates, from what is known before it starts."""

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.imaging.views import most_codes
from beam_dedup.core.stream import sizing
from beam_dedup.core.stream.protocol import StreamPlan, exact_plan, words_of
from beam_dedup.core.thresholds import Thresholds


def choose_stream_plan(
    recipe: Recipe | None,
    thresholds: Thresholds,
    expected_images: int = 1_000_000,
    digest_shards: int = 4,
) -> StreamPlan:
    """Returns the plan that costs least once a stream remembers the expected number of images.

    Args:
      recipe: which codes are computed from each picture, as in `ReadSettings`; None finds only equal bytes.
      thresholds: when two codes are near.
      expected_images: images that arrive within one period (`StreamSettings.remember_micros`).
      digest_shards: parts into which the state per image is divided, so that several workers share it.
    """
    if recipe is None:
        return exact_plan(digest_shards)
    words = words_of(recipe.algorithm)
    return sizing.choose(thresholds, expected_images, most_codes(recipe), words, digest_shards).plan
