"""Describes the options for tables: the field of a list with the paths, and the column of a table with the images.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.options.option import Group, Option

TABLE_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--path_field",),
        group=Group.INPUT,
        metavar="NAME",
        unset="",
        help="Field of -l with the path of an image (default __path__).",
        details="""
            Requires `-l`. Paths are then relative to the directory or prefix of the list, as in the
            `metadata.jsonl`, `metadata.csv` and `metadata.parquet` of an ImageFolder (`file_name`); without
            the option they are relative to the current directory.
            """,
        examples=("dedup -n -l train/metadata.csv --path_field file_name -d unique",),
    ),
    Option(
        flags=("--image_column",),
        group=Group.INPUT,
        metavar="NAME",
        unset="",
        help="Read images from this column of Parquet or Arrow files, one per row.",
        details="""
            The column holds the bytes of an image, or a struct with the fields `bytes` and `path`, as Hugging Face
            `datasets` writes it. Parquet files, and Arrow files and streams (Feather 2), recognised by their content, are
            then read like archives. So are TFRecord files of `tf.train.Example`, where NAME is a feature with the bytes.
            The image in a row has the URI `shard.parquet!17`; rows are numbered from 0. Other columns are
            its metadata, without those that hold bytes. A copy is named after the path in the
            struct, or after the number of its row (`shard.parquet/17.jpg`).

            A row without bytes is rejected as `empty`. A file without such a column is rejected as
            `unsupported`. Limits: 256 MiB per page of Parquet and per record batch of Arrow (decompressed), 128 MiB per image, 2 million rows per
            file, 1 MiB of metadata per row; more metadata are left out.

            Without the option such files are rejected as `not_an_image`.
            """,
        examples=("dedup -n -i 'shards/*.parquet' --image_column image -d unique --records r.jsonl",),
    ),
)
