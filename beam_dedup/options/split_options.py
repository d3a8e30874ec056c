"""Describes the options for the splits of a data set: leaks between given splits, and the assignment to new ones.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.options.defaults import LEAK_REPORT, MAX_SPLITS
from beam_dedup.options.option import Action, Group, Option, whole_number

SPLIT_INPUT_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--split",),
        group=Group.INPUT,
        metavar="NAME=INPUT",
        action=Action.APPEND,
        help="Read a split of a data set from an input, to find leaks between splits.",
        details=f"""
            Replaces `-i`, and accepts the same inputs. Name two splits or more; a split that has several inputs is
            named several times. A name has letters, digits, `_`, `-` and `.`. At most {MAX_SPLITS} splits.

            An image belongs to the split of the input from which it was read, also as a member of an archive;
            its record has the name (`split`). An image leaks to another split that has an image with the same
            bytes, or with `-n` one within the thresholds. The summary and `--counts` have the numbers of leaking
            images from each split to each other one. `--leak` says what follows from a leak.

            Inputs of two splits must not share files. Each split is searched by itself: a link
            from one split into another is an image, or a directory of images, of both, and leaks.

            Not available for streaming.
            """,
        examples=(
            "dedup -n --split train=data/train --split test=data/test --records r.jsonl",
            "dedup -n --split train=a.tar --split train=b.tar --split test='test/*.jpg' --leak fail",
        ),
    ),
)

SPLIT_MATCHING_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--leak",),
        group=Group.MATCHING,
        metavar="WHAT",
        default=LEAK_REPORT,
        unset="",
        help="On leaks: report, fail (exit code 3), or drop_from=NAME (default report).",
        details="""
            Requires `--split`.

            - `report` prints and counts leaks. No verdict depends on splits.
            - `fail` does the same, writes all outputs, and ends with exit code 3 if any image leaks.
            - `drop_from=NAME` rejects each image of this split that leaks to another split, with the reason
              `leaked`. The other images are then judged as if these did not exist. So no image of the split that
              remains leaks, whichever copies are kept. Protected images that leak are rejected too. The
              numbers of leaks are those before.
            """,
        examples=(
            "dedup -n --split train=data/train --split test=data/test --leak fail",
            "dedup -n --split train=data/train --split test=data/test --leak drop_from=train -d clean",
        ),
    ),
)

SPLIT_OUTPUT_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--assign",),
        group=Group.OUTPUT,
        metavar="SHARES",
        unset="",
        help="Assign images to new splits without leaks, by shares (with --records).",
        details="""
            Requires `--records`. The record of each image that is not rejected names its split (`assigned`) and its `component`
            (`--components`). Images of one component, such as duplicates, are all in one split. So with `-n`, no two images
            within the thresholds are in different splits; with `-e`, no two images with the same bytes.

            The shares are numbers in any unit: `80/20` (train, test), `80/10/10` (train, val, test), or with names
            `train=80,val=10,test=10`. The split of a component follows from a hash of its name and `--seed`, so an image keeps
            its split if others are added or removed, unless its component changes. Shares are met on average: small
            data sets deviate, and so do large components, each of which is in one split. The counts have shares, seed
            and the number of images per split.

            Not available for streaming, where a later image may join two components.
            """,
        examples=(
            "dedup -n -i ~/Pictures --records r.jsonl --assign 80/10/10",
            "dedup -n -i ~/Pictures --records r.jsonl --assign train=0.9,dev=0.1 --seed 7",
        ),
    ),
    Option(
        flags=("--seed",),
        group=Group.OUTPUT,
        metavar="N",
        convert=whole_number,
        default="0",
        help="Make another assignment (with --assign; default 0).",
        details="Requires `--assign`. The same seed gives the same assignment; it is in the counts.",
        examples=("dedup -n -i ~/Pictures --records r.jsonl --assign 80/20 --seed 1",),
    ),
)
