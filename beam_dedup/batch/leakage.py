"""Says how many images leak between splits or were assigned to splits, and fails a run that shall have no leaks."""

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
    of = f" of {images:,}" if images else ""
    when = f", before those of {config.drop_from} were rejected" if config.drop_from and leaking else ""
    yield metrics.LEAKING, f"{leaking:,}", f"images{of} have a copy in another split{when}"
    for split, numbers in leakage.items():
        for other, kinds in numbers["to"].items():
            if number := kinds["exact"] + kinds["near"]:
                exact = f"{kinds['exact']:,} by the same bytes" if kinds["exact"] else ""
                near = f"{kinds['near']:,} by near pictures only" if kinds["near"] else ""
                found = ", ".join(filter(None, (exact, near)))
                yield f"  {split} -> {other}", f"{number:,}", f"of {numbers['images']:,}: {found}"


def assigned(counts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields the rows of the summary about images that were assigned to splits: one per split."""
    if not (fields := counts.get("Assigned")):
        return
    total, all_shares = sum(fields["images"].values()), sum(fields["shares"].values())
    for split, number in fields["images"].items():
        got = f"{number / total:.1%} of the images; " if total else ""
        wanted = f"share {fields['shares'][split] / all_shares:.1%}, seed {fields['seed']}"
        yield f"Assigned to {split}", f"{number:,}", got + wanted


def check(config: DedupConfig, counts: Mapping[str, Any] | None) -> None:
    """Raises an error if `--leak fail` was given and there are leaks.

    Raises:
      LeakError: images leak.
      DedupError: it is not known whether images leak.
    """
    if config.leak != LEAK_FAIL:
        return
    if counts is None:
        raise DedupError(
            "--leak fail: this machine does not know whether images leak, because the runner reports no metrics; add "
            "--counts with a path that this machine can read"
        )
    if leaking := counts.get(metrics.LEAKING, 0):  # some runners report no counters that are 0
        verb = "has a copy" if leaking == 1 else "have copies"
        advice = "" if config.pairs else ". Add --pairs FILE to list them"
        raise LeakError(f"--leak fail: {counted(leaking, 'image')} {verb} in another split{advice}")
