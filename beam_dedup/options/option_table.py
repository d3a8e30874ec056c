"""Lists every option of the command line, in the order of the help.

Each option is described once. The parser, `dedup --help`, `dedup --help OPTION`, the reference (docs/reference/options.md) and the
parameters of the Dataflow template are made from this table. After a change run

    python -m beam_dedup.options.reference > docs/reference/options.md
    python -m beam_dedup.dataflow.metadata > templates/dataflow/metadata.json

In texts, other options are named by their flags. Commands stand in `Option.examples` only: the Dataflow template shows all other
texts with the names of its parameters instead of flags.
"""

from beam_dedup.options.io_options import INPUT_OPTIONS, OUTPUT_OPTIONS
from beam_dedup.options.matching_options import MATCHING_OPTIONS
from beam_dedup.options.option import Option
from beam_dedup.options.run_options import EXECUTION_OPTIONS, LIMITS_OPTIONS, STREAMING_OPTIONS
from beam_dedup.options.split_options import SPLIT_INPUT_OPTIONS, SPLIT_MATCHING_OPTIONS, SPLIT_OUTPUT_OPTIONS

OPTIONS: tuple[Option, ...] = (
    *INPUT_OPTIONS,
    *SPLIT_INPUT_OPTIONS,
    *MATCHING_OPTIONS,
    *SPLIT_MATCHING_OPTIONS,
    *OUTPUT_OPTIONS,
    *SPLIT_OUTPUT_OPTIONS,
    *STREAMING_OPTIONS,
    *LIMITS_OPTIONS,
    *EXECUTION_OPTIONS,
)


def find(flag: str) -> Option | None:
    """Returns the option of a flag, with or without its dashes; None if there is no such option.

    >>> find("-k") is find("--bit_distance") is find("bit_distance")
    True
    """
    wanted = flag.lstrip("-")
    return next((one for one in OPTIONS if wanted in [known.lstrip("-") for known in one.flags]), None)
