"""Says which images leak between the splits of a run, and fails the run if it shall not have leaks."""

from collections.abc import Iterator, Mapping
from typing import Any

from beam_dedup.core.errors import DedupError, LeakError
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.defaults import LEAK_FAIL
from beam_dedup.texts import counted
from transforms import metrics

LEAKAGE = "Leakage"


def table(config: DedupConfig, counts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields the rows of the summary about leaks: the total, then one row per pair of splits with leaks."""
    if not config.splits or metrics.LEAKING not in counts:
        return
    leaking = counts[metrics.LEAKING]
    leakage = counts.get(LEAKAGE, {})
    images = sum(split["images"] for split in leakage.values())
    when = ", before those of " + config.drop_from + " were rejected" if config.drop_from and leaking else ""
    of = f"of {images:,} compared, " if images else ""
    yield metrics.LEAKING, f"{leaking:,}", f"{of}have a copy in another split{when}"
    for split, numbers in leakage.items():
        for other, kinds in numbers["to"].items():
            if number := kinds["exact"] + kinds["near"]:
                near = f", {kinds['near']:,} near" if config.near else ""
                note = f"of {numbers['images']:,}: {kinds['exact']:,} with the same bytes{near}"
                yield f"  {split} -> {other}", f"{number:,}", note


def check(config: DedupConfig, counts: Mapping[str, Any] | None) -> None:
    """Raises an error if `--leak fail` was given and there are leaks.

    Raises:
      LeakError: images leak.
      DedupError: it is not known whether images leak.
    """
    if config.leak != LEAK_FAIL:
        return
    if counts is None or metrics.LEAKING not in counts:
        raise DedupError(
            "--leak fail: this machine does not know whether images leak, because the runner reports no metrics; add "
            "--counts with a path that this machine can read"
        )
    if leaking := counts[metrics.LEAKING]:
        verb = "has a copy" if leaking == 1 else "have copies"
        raise LeakError(f"{counted(leaking, 'image')} {verb} in another split (--leak fail)")
