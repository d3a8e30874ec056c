"""Defines which of several duplicates is preferred, and which images are protected."""

import dataclasses
import enum


class KeepPolicy(enum.StrEnum):
    """Which of several duplicates is preferred. Every policy ends with files before links, then the URI."""

    FIRST = "first"  # the first by URI
    LARGEST = "largest"  # the most pixels, then the most bytes
    OLDEST = "oldest"  # the earliest time of modification; images without a time come last
    NEWEST = "newest"  # the latest time of modification


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """Which images are kept.

    Args:
      policy: which of several duplicates is preferred.
      protect: globs (`beam_dedup.core.path_globs`) of protected images. They are kept, however near they are to
        other kept images.
      directory: to which relative paths of images are relative when they are matched with globs.
    """

    policy: KeepPolicy = KeepPolicy.FIRST
    protect: tuple[str, ...] = ()
    directory: str = ""

    @classmethod
    def of(cls, keep: "KeepPolicy | Preference") -> "Preference":
        """Returns a policy as a preference, and a preference as it is."""
        return keep if isinstance(keep, Preference) else cls(keep)
