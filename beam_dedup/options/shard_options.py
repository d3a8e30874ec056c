"""Describes the option for shards: kept images in Parquet files or tars instead of files of their own.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.options.option import Group, Option

SHARD_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--as",),
        group=Group.OUTPUT,
        metavar="FORMAT",
        choices=("parquet", "tar"),
        help="Fill DIR with shards, parquet or tar, instead of single copies (with -d).",
        details="""
            Requires `-d`. Each archive or table with kept images becomes a shard of the same name with its kept
            images alone. A table as `parquet` keeps all columns and the metadata of its schema, so that
            `datasets` shows the images. A tar as `tar` keeps the members that have the key of a kept image and are
            not images, as WebDataset has them. Images that are files become shards called
            `images-00000-of-00004`, with their companions.

            In all other cases a row of Parquet has the columns `image` (a struct of `bytes` and
            `path`), `metadata` (JSON) and `companions`, and a tar has the metadata of `key.jpg` as `key.json`.
            A shard has at most about 1 GiB; what is more goes into `name.part1.parquet` and so on. Limits: 128 MiB per
            image and per companion, 256 MiB per row.

            A shard depends on the input alone: a second run changes nothing, and an existing file of
            other content is not replaced. Not available with `-s`, `--place` and `--preview`, nor for
            streaming.
            """,
        examples=(
            "dedup -n -i 'shards/*.parquet' --image_column image -d unique --as parquet",
            "dedup -n -i 'shards/*.tar' -d unique --as tar",
        ),
    ),
)
