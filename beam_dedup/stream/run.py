"""Runs a stream: checks the options, plans, and hands over to the local runner or to another runner."""

from beam_dedup.core.imaging.views import most_codes
from beam_dedup.core.stream import sizing
from beam_dedup.core.stream.protocol import StreamPlan, exact_plan, words_of
from beam_dedup.options.config import DedupConfig
from beam_dedup.output import log
from beam_dedup.preflight import Prepared
from beam_dedup.shutdown import scratch_directory
from beam_dedup.stream import local_run, remote_run
from beam_dedup.stream.pipeline import DIGEST_SHARDS
from transforms.tally import Tally


def run(prepared: Prepared, started: float) -> int:
    """Builds the pipeline and runs it until it is stopped.

    Takes the same arguments, returns the same and raises the same as `beam_dedup.batch.run.run`.
    """
    plan = _plan(prepared.config)
    with scratch_directory(prepared.config) as scratch:
        if prepared.is_local:
            return local_run.run(prepared.config, prepared.beam_options, plan, scratch, started)
        tally = Tally(scratch) if prepared.has_workers_here else None
        return remote_run.run(prepared.config, prepared.beam_options, plan, tally)


def _plan(config: DedupConfig) -> StreamPlan:
    """Returns the plan of the stream, and logs its expected cost."""
    assert config.stream
    if not config.near:
        return exact_plan(DIGEST_SHARDS)
    chosen = sizing.choose(
        config.thresholds,
        config.stream.expected_images,
        most_codes(config.recipe),
        words_of(config.recipe.algorithm),
        DIGEST_SHARDS,
    )
    if not config.quiet and not config.stream.window_seconds:
        log(f"plan for --expected_images: {chosen.describe()}")
        smaller, shorter = chosen.alternatives()
        log(
            f"half of -k would take {smaller.microseconds:,.0f} us per image, "
            f"a tenth of --remember {shorter.microseconds:,.0f} us"
        )
    return chosen.plan
