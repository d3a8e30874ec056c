"""What can go wrong with input, as opposed to with our code.

    DedupError                 a message for the person who runs the tool; ends the run with exit code 1
      +-- UsageError           the command line or the configuration is wrong; exit code 2
      +-- PlanError            near matching would take for ever; exit code 2 where it is known beforehand
      +-- ConservationError    initial != kept + duplicates + rejected: a bug, never to be passed over
    ImageError                 one input item can't take part; becomes a `Rejection`, never ends a run
      +-- ArchiveError         an archive can't be read further; what came before that counts
    DecodeError                the bytes are an image, but the picture can't be had; it still takes part by digest

Any other exception is a bug and stops the bundle that met it.
"""

from beam_dedup.core.model import Reason

DEBUG_VARIABLE = "DEDUP_DEBUG"  # in the environment, set to anything: the engine's own log, and tracebacks


def install_command(extra: str) -> str:
    """Returns the command that installs an optional set of dependencies, and where to run it.

    >>> print(install_command("gcp"))
    pip install '.[gcp]' in the checkout
    """
    return f"pip install '.[{extra}]' in the checkout"


class DedupError(Exception):
    """The run can't go on; the message says what to do."""


class UsageError(DedupError):
    """The command line or the configuration is wrong: flag, rule and value in one sentence."""


class PlanError(DedupError):
    """The work would grow with the square of the number of images: the numbers, and what to change."""


class ConservationError(DedupError):
    """Some image was lost or judged twice."""


class ImageError(Exception):
    """One input item is not an image that can be deduplicated."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[Reason, str]]:
        """Made anew from its own arguments where it is unpickled, not from the message."""
        return type(self), (self.reason, self.detail)


class ArchiveError(ImageError):
    """An archive is damaged, cut short or too large from here on."""


class DecodeError(Exception):
    """The bytes were recognised as an image, but its picture could not be decoded."""
