"""The checked configuration of a run. Knows nothing of Beam or of the command line."""

import dataclasses

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.limits import Limits
from beam_dedup.core.rank import KeepPolicy
from beam_dedup.core.thresholds import Thresholds

DEFAULT_OUTPUT_JSON = "image_locations.json"
DEFAULT_RECORDS = "image_records/"  # of runs that stay
DEFAULT_REMEMBER = "24h"
DEFAULT_EXPECTED = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class StreamConfig:
    """What a run that stays does.

    subscription: of Pub/Sub, whose notifications say what to read; "" watches the inputs. verdict_topic: where records are
    published. remember_seconds: how long an image is remembered. window_seconds: each such stretch is judged by itself; 0
    judges each image against all that is remembered. expected_images: that arrive within `remember_seconds`.
    """

    subscription: str = ""
    verdict_topic: str = ""
    remember_seconds: float = 86400.0
    window_seconds: float = 0.0
    expected_images: int = DEFAULT_EXPECTED


@dataclasses.dataclass(frozen=True, slots=True)
class DedupConfig:
    """What a run does. Paths are as the user gave them; "" stands for an output that is not wanted."""

    inputs: tuple[str, ...] = ()
    json_metadata: str = ""  # instead of inputs
    near: bool = False
    thresholds: Thresholds = dataclasses.field(default_factory=Thresholds)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    limits: Limits = dataclasses.field(default_factory=Limits)
    keep: KeepPolicy = KeepPolicy.FIRST
    reference: str = ""
    output_json: str = DEFAULT_OUTPUT_JSON
    output_dir: str = ""
    show_duplicates: bool = False
    place: str = "copy"
    preview: bool = False
    portable_names: bool = False
    records: str = ""
    counts: str = ""
    jobs: int = 1
    force_plan: bool = False
    quiet: bool = False
    stream: StreamConfig | None = None  # of a run that stays; then records and counts are folders

    @property
    def output_files(self) -> dict[str, str]:
        """Path of each wanted output file by its flag; a prefix of several files counts as one."""
        files = {"-o": self.output_json, "--records": self.records, "--counts": self.counts}
        return {flag: path for flag, path in files.items() if path}

    @property
    def not_input(self) -> tuple[str, ...]:
        """What is not listed, though it may lie in the input folder."""
        return (*self.outputs, self.reference) if self.reference else self.outputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that is written, and therefore is not input."""
        return tuple(path for path in (*self.output_files.values(), self.output_dir) if path)
