"""Describes the options for all pairs within the thresholds, and for the components that they connect.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.core.thresholds import MAX_PAIRS
from beam_dedup.options.option import Action, Group, Option, whole_number

PAIR_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--pairs",),
        group=Group.OUTPUT,
        metavar="FILE",
        unset="",
        help="Write every pair of contents within the thresholds, with distances.",
        details="""
            One row per pair of different contents (SHA-256) that are near duplicates of each other, not only the pairs of a
            duplicate and its kept image: `digest_a`, `digest_b`, `uri_a`, `uri_b`, `distance`, `long_distance`,
            `view`, `known_a` and `known_b`; with `--split` also `split_a` and `split_b`, and a row for each content that two
            splits have. Known images (`--reference`) are paired with new ones, not with each
            other. JSON Lines, or Avro, Parquet or CSV, as the name ends; sorted by digests. With
            `-e` no pictures are compared, so there are no pairs.

            There may be half as many pairs as the square of the number of images. A run with more than
            `--max_pairs` ends with exit code 1, says how many there are, and writes no file of pairs. An existing file is
            replaced only if an earlier run wrote it.

            Not available for streaming: run a batch over the images.
            """,
        examples=("dedup -n -i ~/Pictures --pairs pairs.csv",),
    ),
    Option(
        flags=("--max_pairs",),
        group=Group.OUTPUT,
        metavar="N",
        convert=whole_number,
        default=str(MAX_PAIRS),
        help=f"Refuse to list more than N pairs (with --pairs; default {MAX_PAIRS}).",
        details="""
            Requires `--pairs`. From 1 to 1000000000. One worker holds all pairs, in about 200 bytes each, and writes
            them.
            """,
        examples=("dedup -n -k 4 -i crawl --pairs pairs.parquet --max_pairs 50000000",),
    ),
    Option(
        flags=("--components",),
        group=Group.OUTPUT,
        action=Action.SWITCH,
        help="Add the connected component of each image to its record (with --records).",
        details="""
            Requires `--records`. Two images have the same `component` if and only if pairs within the thresholds lead from one to the
            other, however far apart they are themselves. Its value is the lowest SHA-256 in it, also if that is the one
            of a known image. An image without such pairs has its own SHA-256; a rejected image has none.

            The number of pairs is not limited: memory is needed for the images in pairs, about 300 bytes each, not for the pairs.

            Not available for streaming, where a later image may join two components.
            """,
        examples=("dedup -n -i ~/Pictures --records r.jsonl --components",),
    ),
)
