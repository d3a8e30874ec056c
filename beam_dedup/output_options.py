"""The options that say what is written, and where."""

import argparse

DEFAULT_OUTPUT_JSON = "image_locations.json"
DEFAULT_RECORDS = "image_records/"  # of runs that stay


def add(group: argparse._ArgumentGroup) -> None:
    """Adds the options to their group."""
    group.add_argument(
        "-d",
        "--output_dir",
        metavar="DIR",
        default="",
        help="copy each kept image to its relative path below DIR",
    )
    group.add_argument(
        "-s",
        "--show_duplicates",
        action="store_true",
        help="with -d: copy duplicates too, to DIR/_duplicates/<key>/",
    )
    group.add_argument(
        "--place",
        metavar="HOW",
        choices=("copy", "hardlink", "symlink"),
        help="with -d: copy (default), or link instead; a hard link needs the same device, and writing to it writes "
        "to the input",
    )
    group.add_argument(
        "--preview",
        action="store_true",
        help="with -d: say what would be placed there, and write nothing but the files named by other options",
    )
    group.add_argument(
        "--portable_names",
        action="store_true",
        help="with -d: escape upper case, accents and what Windows forbids, so that no two names become one on any file "
        "system; by itself where that of DIR makes no difference between A and a",
    )
    group.add_argument(
        "-o",
        "--output_json",
        metavar="FILE",
        help='groups as JSON: {key: [{"filename": ...}, ...]}, the kept image first; the key is the SHA-256 of that '
        f"image (default {DEFAULT_OUTPUT_JSON})",
    )
    group.add_argument(
        "--records",
        metavar="FILE",
        help="one record per image, sorted by path: JSON Lines, or Avro if the name ends in .avro; "
        "a name ending in / is a folder for many unsorted JSON Lines files. With --watch or --subscription always a folder "
        f"(default {DEFAULT_RECORDS})",
    )
    group.add_argument("--counts", metavar="FILE", default="", help="the counts of the summary as JSON")
