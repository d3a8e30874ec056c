"""Names of all counters. Engines show them on their dashboards; results are never computed from them."""

from apache_beam.metrics import Metrics

from beam_dedup.core.model import Reason, Status, Verdict

NAMESPACE = "beam_dedup"

INITIAL = "Initial_Image_Count"
FINAL = "Final_Image_Count"
EXACT_DUPLICATES = "Exact_Duplicate_Count"
NEAR_DUPLICATES = "Near_Duplicate_Count"
REJECTED = "Rejected_Count"
BYTES_READ = "Read_Byte_Count"
KNOWN_REJECTED = "Known_Rejected_Count"
COPIES = "Placed_Copy_Count"
UNPLACED = "Unplaced_Copy_Count"

_DUPLICATE_COUNTERS = {Reason.EXACT: EXACT_DUPLICATES, Reason.NEAR: NEAR_DUPLICATES}


def rejected_for(reason: Reason) -> str:
    """The counter of one reason of rejection."""
    return f"Rejected_{reason}_Count"


def names_for(verdict: Verdict) -> tuple[str, ...]:
    """The counters that go up by one with a verdict."""
    if verdict.status == Status.KEPT:
        return INITIAL, FINAL
    assert verdict.reason is not None
    if verdict.status == Status.DUPLICATE:
        return INITIAL, _DUPLICATE_COUNTERS[verdict.reason]
    return INITIAL, REJECTED, rejected_for(verdict.reason)


def count(verdict: Verdict) -> Verdict:
    """Counts a verdict on the engine's dashboard and passes it on."""
    for name in names_for(verdict):
        Metrics.counter(NAMESPACE, name).inc()
    return verdict
