"""Defines the checked configuration of a run, without Beam and without the command line."""

import dataclasses

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.assignment import Assignment
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import is_remote
from beam_dedup.core.preference import Preference
from beam_dedup.core.reading import input_paths
from beam_dedup.core.reading.selection import Selection
from beam_dedup.core.splits import Splits
from beam_dedup.core.thresholds import MAX_PAIRS, Thresholds
from beam_dedup.options.defaults import DEFAULT_EXPECTED, DEFAULT_OUTPUT_JSON, DROP_FROM, LEAK_REPORT


@dataclasses.dataclass(frozen=True, slots=True)
class StreamConfig:
    """The settings that only a streaming run has.

    Args:
      subscription: the Pub/Sub subscription that announces images; "" watches the inputs instead.
      verdict_topic: the Pub/Sub topic to which records are published; "" for none.
      quiet_seconds: a watched file is complete when it has not changed for longer, see `--quiet_time`.
      remember_seconds: the length of a period, see `--remember`.
      window_seconds: the length of the windows that are judged separately; 0 for none, so that each image is judged against all
        remembered images.
      expected_images: how many images may arrive within `remember_seconds`.
    """

    subscription: str = ""
    verdict_topic: str = ""
    remember_seconds: float = 86400.0
    window_seconds: float = 0.0
    expected_images: int = DEFAULT_EXPECTED
    quiet_seconds: float = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class DedupConfig:
    """The settings of a run. Input paths are normalised; "" stands for an output that is not written."""

    inputs: tuple[str, ...] = ()
    json_metadata: str = ""  # replaces inputs
    allow: tuple[
        str, ...
    ] = ()  # prefixes of the paths that messages and rows may name; () for no limit of rows
    links_inside: bool = False  # whether links that lead out of the inputs are rejected
    selection: Selection = dataclasses.field(
        default_factory=Selection
    )  # which files of inputs and reference are read
    near: bool = False
    across: bool = False  # whether only images of different inputs are duplicates of each other
    thresholds: Thresholds = dataclasses.field(default_factory=Thresholds)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    limits: Limits = dataclasses.field(default_factory=Limits)
    keep: Preference = dataclasses.field(default_factory=Preference)
    reference: str = ""
    decisions_file: str = ""
    decisions: Decisions = NO_DECISIONS  # the content of that file
    output_json: str = DEFAULT_OUTPUT_JSON
    output_dir: str = ""
    show_duplicates: bool = False
    place: str = "copy"
    shards: str = ""  # the format of shards in the output directory; "" for single copies
    preview: bool = False
    portable_names: bool = False
    records: str = ""
    counts: str = ""
    jobs: int = 1
    force_plan: bool = False
    quiet: bool = False
    verbose: bool = False
    directory: str = (
        ""  # to which relative paths in the rows of -l are relative; "" for the current one of the worker
    )
    report: str = ""  # directory of the review page
    drop_list: str = ""
    path_field: str = ""  # of the rows of -l, with the path of an image; "" for the default
    union: bool = False  # whether records of kept images say what their duplicates have
    companions: bool = True  # whether companions go with their images (batch runs with `inputs`)
    pairs: str = ""  # file of all pairs within the thresholds
    max_pairs: int = MAX_PAIRS
    components: bool = False  # whether records contain connected components
    splits: tuple[str, ...] = ()  # of each of the inputs; () if they belong to none
    leak: str = LEAK_REPORT  # what follows from a leak
    assignment: Assignment | None = None  # the splits that images are assigned to
    stream: StreamConfig | None = None  # None for a batch run; otherwise records and counts are directories

    @property
    def read_limits(self) -> Limits:
        """The limits with which images are read: also to which local directories, see `--links` and `--allow`."""
        if self.links_inside:
            return dataclasses.replace(self.limits, roots=input_paths.local_roots(self.inputs))
        local = tuple(prefix for prefix in self.allow if not is_remote(prefix))
        return dataclasses.replace(self.limits, roots=local, outside=Reason.NOT_ALLOWED.value)

    @property
    def input_flag(self) -> str:
        """The flag that names the inputs."""
        return "--split" if self.splits else "-i"

    @property
    def data_splits(self) -> Splits | None:
        """The splits of the inputs; None if they belong to none."""
        return Splits.of_inputs(self.inputs, self.splits) if self.splits else None

    @property
    def drop_from(self) -> str:
        """The split from which leaking images are rejected; "" for none."""
        return self.leak.removeprefix(DROP_FROM) if self.leak.startswith(DROP_FROM) else ""

    @property
    def output_files(self) -> dict[str, str]:
        """The path of each output file by its flag, for example {"-o": "groups.json"}; a directory of files counts as one."""
        files = {
            "-o": self.output_json,
            "--records": self.records,
            "--counts": self.counts,
            "--drop_list": self.drop_list,
            "--pairs": self.pairs,
        }
        return {flag: path for flag, path in files.items() if path}

    @property
    def excluded_paths(self) -> tuple[str, ...]:
        """The paths that are not read as input, even if they lie below an input: outputs, the reference, the decisions."""
        return (*self.outputs, *filter(None, (self.reference, self.decisions_file)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The paths that the run writes to."""
        return tuple(path for path in (*self.output_files.values(), self.output_dir, self.report) if path)
