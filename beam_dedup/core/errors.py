"""Defines the exceptions for wrong usage and bad input.

    DedupError                 ends the run with exit code 1; the message is for the person who runs the tool
      +-- UsageError           the command line or the configuration is wrong; exit code 2
      +-- LeakError            images leak between splits, and `--leak fail` was given; exit code 3
      +-- PlanError            near matching would take far too long; exit code 2 if found before the start
      +-- ConservationError    initial != kept + duplicates + rejected: a bug, never to be ignored
    ImageError                 one input item can't be deduplicated; becomes a `Rejection`, never ends a run
      +-- ArchiveError         an archive can't be read any further; the members before that point count
    DecodeError                the bytes are an image without a decodable picture; it is compared by digest
      +-- OutOfMemoryError     the cause is, or may be, that the system allows too little memory

Any other exception is a bug and fails the bundle in which it was raised.
"""

from beam_dedup.core.model import Reason

# If this environment variable is set, whatever its value, the log of the runner and tracebacks are shown.
DEBUG_VARIABLE = "DEDUP_DEBUG"


def install_command(extra: str) -> str:
    """Returns the command that installs an optional set of dependencies, and where to run it.

    >>> print(install_command("gcp"))
    pip install '.[gcp]' in the checkout
    """
    return f"pip install '.[{extra}]' in the checkout"


class DedupError(Exception):
    """The run can't continue; the message says what to do."""


class UsageError(DedupError):
    """The command line or the configuration is wrong; the message names flag, rule and value in one line."""


class LeakError(DedupError):
    """Images of one split of a data set have copies in another. All outputs were written."""


class PlanError(DedupError):
    """The work would grow with the square of the number of images.

    The message has the numbers, and says what to change.
    """


class ConservationError(DedupError):
    """An image was lost or judged twice."""


class ImageError(Exception):
    """One input item is not an image that can be deduplicated.

    Attributes:
      content_format: what its bytes are instead (see `beam_dedup.core.imaging.other_kinds`); "" if that is unknown.
    """

    def __init__(self, reason: Reason, detail: str = "", content_format: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.content_format = content_format

    def __reduce__(self) -> tuple[type["ImageError"], tuple[Reason, str, str]]:
        """Makes pickle call the constructor with its arguments, not with the message."""
        return type(self), (self.reason, self.detail, self.content_format)


class ArchiveError(ImageError):
    """An archive is damaged, truncated or too large from this point on."""


class DecodeError(Exception):
    """The bytes were recognised as an image, but its picture can't be decoded."""


class OtherFormatError(DecodeError):
    """The picture is of another format than the first bytes say, and that format is not decoded.

    Args:
      image_format: the name of the format.
      detail: for the record.
    """

    def __init__(self, image_format: str, detail: str) -> None:
        super().__init__(detail)
        self.image_format = image_format


class OutOfMemoryError(DecodeError):
    """The picture can't be decoded for lack of memory: with more memory it might be."""
