"""Describes the options for what is read and what is written.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.options.defaults import (
    COMPANIONS_ALL,
    COMPANIONS_NONE,
    DEFAULT_OUTPUT_JSON,
    DEFAULT_RECORDS,
    LINKS_FOLLOW,
    LINKS_INSIDE,
)
from beam_dedup.options.option import Action, Group, Option
from beam_dedup.options.pair_options import PAIR_OPTIONS
from beam_dedup.options.selection_options import SELECTION_OPTIONS
from beam_dedup.options.table_options import TABLE_OPTIONS

INPUT_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("-i", "--dump_dir"),
        group=Group.INPUT,
        metavar="PATH",
        action=Action.APPEND,
        excludes="-l",
        help="Read images from this directory, file, archive, or quoted pattern.",
        details="""
            Required, unless `-l` or `--subscription` names the images. It accepts:

            - a directory: its files and the files of all directories below it. Links are followed; no
              directory is read twice.
            - a file, for example an archive.
            - a quoted pattern such as `'crawl/*/*.jpg'` or `'crawl/**/*.png'`: the files that match.
              Directories that match are searched too, unless the pattern contains `**`.
            - a path of an object store or of another file system that Beam opens: `gs://bucket/crawl`,
              `'s3://bucket/a/*.jpg'`.

            Files are recognised by their content, not by their name. Archives (tar, zip, WARC; tar and WARC
            also compressed) are searched like directories, and nothing is unpacked to disk. Parquet files with images
            are searched too if `--image_column` names the column. The files that
            a run writes are not read as input.

            With several inputs, the names under which `-d` places copies begin with the last part of the
            input's path (`b/`, and `b#2/` for a second `b`). Inputs of which one contains the other are
            refused.

            Object stores need an extra, installed in the checkout: `pip install '.[gcp]'` for `gs://`,
            `pip install '.[aws]'` for `s3://`. Every path that is read or written may be in a store.
            Credentials are found as by Google's and Amazon's own tools. `--no_auth` uses none: use it for
            public `gs://` buckets, where the search for credentials otherwise takes half a minute.
            `--s3_endpoint_url` names another server that speaks S3; its credentials are
            `--s3_access_key_id`, `--s3_secret_access_key` and `--s3_region_name`, or the `AWS_...`
            variables. Objects are downloaded to the directory for temporary files while others are decoded:
            up to 32 at a time, pictures whole, and of objects larger than 4 MiB only the beginning until
            their turn comes. An empty prefix and a bucket that does not exist are refused at once.
            """,
        examples=(
            "dedup -n -i ~/Pictures -d unique",
            "dedup -n -i photos.zip -i 'shards/*.tar' -d unique",
            "dedup -n -i 's3://bucket/*/photos' -i more -d unique",
        ),
    ),
    Option(
        flags=("-l", "--json_metadata"),
        group=Group.INPUT,
        metavar="FILE",
        unset="",
        help="Read image paths and metadata from this file (JSON, CSV, Avro or Parquet).",
        details="""
            Each line (or row) is one image. `__path__` is its path, relative to the current directory, a
            `file:///` URI, or in another file system (`gs://...`). All other keys, for example the metadata
            that Apache Tika extracts, go into its record. `--path_field` names another key for the path.

            The file is recognised by its content: JSON Lines, one JSON array of objects, CSV (with commas, semicolons
            or tabs; its first line names the columns, one of which is that of the path), Avro or Parquet. JSON
            and CSV may be compressed with gzip, and in UTF-8, UTF-16 or UTF-32.

            An image that can be opened is judged like any other, and an archive is searched. An image that
            cannot be opened is compared by its metadata; its record has the flag `described`, and `detail`
            says why it could not be opened:

            - exact: by a recorded digest of its bytes (`X-TIKA:digest:SHA256`, `md5`, ...). A SHA-256 is
              also compared with images that can be opened; images with different digests are different.
              Without a digest, by all metadata except the names, paths and dates of the file, if at least
              two of its values discriminate (time and place, identifiers, titles); else the image equals no
              other.
            - near: by a simhash of 64 bits of its keys and values, within `-k` but at most 3 bits, with
              other images that cannot be opened. Values that discriminate weigh most. An image with fewer
              than two such values has no near duplicates, so that an equal content type alone never
              matches. Beside `colorhash` and `pdq`, whose codes have other lengths, such images are compared
              exactly only.

            An image that could be opened is kept in preference to one that could not. Images that could not
            be opened are never copied. A line that cannot be read, that names no image, or whose path an
            earlier line has, is rejected with the reason; its number identifies it (`crawl.jsonl!17`).
            Nothing is fetched from `http://` or `https://` addresses.

            Not available for streaming.
            """,
        examples=("dedup -n -l crawl.jsonl -d unique --records r.jsonl",),
    ),
    Option(
        flags=("--reference",),
        group=Group.INPUT,
        metavar="PATH",
        unset="",
        help="Compare with these known images too; never judge, copy or count them.",
        details="""
            A directory, file, archive or prefix of a store with images that you have already. A pattern is
            not accepted. An image that duplicates a known image is a duplicate, whatever `--keep` prefers.
            Known images inside the input are not read as input; an input inside the reference is refused.

            Not available for streaming: start with one run over both collections instead.
            """,
        examples=(
            "dedup -n -i new --reference collection -d add --keep largest --preview",
            "dedup -n -i new --reference collection.tar",
        ),
    ),
    Option(
        flags=("--allow",),
        group=Group.INPUT,
        metavar="PREFIX",
        action=Action.APPEND,
        help="Read only images below this prefix (-l; required with --subscription).",
        details="""
            A bucket (`gs://bucket`), a prefix (`gs://bucket/in/`), or with `-l` also a local directory. Give
            the option several times for several. An image that a message or a row names outside of all of
            them is rejected with the reason `not_allowed`: it is not opened, listed, copied or compared by
            its metadata. A prefix ends where a part of a path ends: `gs://b` does not allow
            `gs://bad/a.jpg`.

            - `--subscription` requires it. Whoever may publish to the topic chooses the object that a
              message names, and all attributes of the message, so notifications can be forged too. The
              option says which of the objects that the account of the pipeline may read are input.
            - With `-l` every path is allowed unless the option is given.

            An object is allowed only if it lies below the prefix however its name is read: as it is, with
            escapes (`%2e`) or backslashes resolved, and without leaving the prefix by `..`. Names of objects
            that need that are rejected. A local path is allowed if its real path is, so links are resolved,
            again when the file is opened. Members of an archive are judged by the path of the archive.
            """,
        examples=(
            "dedup -n --subscription projects/P/subscriptions/S --allow gs://crawl-in -d gs://crawl-out/unique",
            "dedup -n -l crawl.jsonl --allow . -d unique",
        ),
    ),
    Option(
        flags=("--links",),
        group=Group.INPUT,
        metavar="HOW",
        choices=(LINKS_FOLLOW, LINKS_INSIDE),
        default=LINKS_FOLLOW,
        help="Follow all links below -i, or only those into the inputs (default follow).",
        details="""
            Requires `-i`. With `inside`, a symbolic link to a file or directory whose real path lies outside
            of the inputs is rejected with the reason `link_outside`, and nothing behind it is read or
            listed. Use it for input that strangers can write to. A link into another input is no link out. The
            input of a pattern is the directory before its first wildcard. The path given as `-i` may be a
            link itself, and known images (`--reference`) are not limited. Hard links and mounted file
            systems are no symbolic links: they are read.

            The real path is checked again when a file is opened. A copy is made only of the bytes that were
            judged, so a link that is changed later does not matter; `--place hardlink` and `symlink` do not
            read the bytes again.
            """,
        examples=("dedup -n -i crawl --links inside -d unique",),
    ),
    *SELECTION_OPTIONS,
    *TABLE_OPTIONS,
    Option(
        flags=("--companions",),
        group=Group.INPUT,
        metavar="WHICH",
        choices=(COMPANIONS_ALL, COMPANIONS_NONE),
        default=COMPANIONS_ALL,
        help="Let all or none of an image's files go with it (default all).",
        details="""
            Requires `-i`. With `all`, files that belong to an image by their names are not judged: they go
            where the image goes, and its record lists them (`companions`). They are, in the same directory
            and without regard to case:

            - files of the same stem with `.xmp`, `.aae`, `.thm`, `.json`, `.mov` or `.mp4`; also
              `a.jpg.xmp`, which belongs to `a.jpg` alone;
            - RAW files beside a JPEG or HEIF of the same stem. So a shot is one unit: its JPEG is judged, and
              neither is a duplicate of the other. A RAW file without a JPEG or HEIF is judged itself;
            - Apple's edits: `IMG_E1.JPG` belongs to `IMG_1.HEIC`.

            Companions of kept images are copied with them (`-d`). Companions of duplicates are copied too if
            no companion of a kept image has the same bytes, so no content is missing; with `-s` they are
            beside the duplicates. The files of an image that is rejected, or that is no image, are files
            like others. So are all files with `none`.

            Companions are looked for in local directories only, not in object stores, archives, `-l` or
            `--reference`, and only among the files that are read: `-i 'in/*.jpg'` leaves them out.

            Not available for streaming, where companions may arrive later than their image.
            """,
        examples=("dedup -n -i ~/Pictures --companions none --records r.jsonl",),
    ),
)

OUTPUT_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("-d", "--output_dir"),
        group=Group.OUTPUT,
        metavar="DIR",
        unset="",
        help="Copy each kept image to its relative path below this directory.",
        details="""
            Members of archives go to a directory named after the archive. A copy gets its name only when it
            is complete and its bytes are those that were judged; within one store the store copies, so
            bytes that changed since are not noticed. Nothing that exists in the directory is replaced or
            removed. An image that cannot be placed for that reason, or because it changed or vanished, is
            reported at the end (exit code 1); everything else is done. A second run changes nothing. So
            give each input a directory of its own, and a new one after a change of options.

            A name that would lead out of the directory, or that holds control characters, is escaped with
            `%`. A name of more than 255 bytes is shortened and ends in a hash of itself. In a store the
            permission to read is needed too, to check that nothing is replaced.

            When streaming, the copy of a file that was rewritten under the same name gets its generation in
            the name (`a~1785.jpg`) if the name is taken. A kept image that is overwritten before it is
            copied is reported at the end.
            """,
    ),
    Option(
        flags=("-s", "--show_duplicates"),
        group=Group.OUTPUT,
        action=Action.SWITCH,
        help="Copy duplicates too, to DIR/_duplicates/<key>/ (with -d).",
        details="Requires `-d`. The key is the SHA-256 of the kept image that they duplicate.",
        examples=("dedup -n -i ~/Pictures -d unique -s",),
    ),
    Option(
        flags=("--place",),
        group=Group.OUTPUT,
        metavar="HOW",
        choices=("copy", "hardlink", "symlink"),
        default="copy",
        help="Fill DIR by copy, hardlink or symlink (with -d; default copy).",
        details="""
            Requires `-d`. Links need files of this machine on both sides; members of archives cannot be
            linked. A hard link needs input and output on the same device, and writing to it writes to the
            input.
            """,
    ),
    Option(
        flags=("--portable_names",),
        group=Group.OUTPUT,
        action=Action.SWITCH,
        help="Escape names that could collide on another file system (with -d).",
        details="""
            Requires `-d`. Escapes upper case, accents and the characters and words that Windows forbids in
            the names of copies, so that no two names become one on any file system. It is switched on
            automatically if the file system of `-d` does not distinguish `A` from `a`.
            """,
    ),
    Option(
        flags=("--preview",),
        group=Group.OUTPUT,
        action=Action.SWITCH,
        help="Print what -d would place, without placing it.",
        details="""
            Requires `-d`. Writes nothing but the files that other options name; `-o` has no default then.
            Only for batch runs on this machine. `--dry-run` and `--dry_run` mean the same, also where Beam
            has an option of that name.
            """,
        examples=("dedup -n -i ~/Pictures -d unique -s --preview",),
    ),
    Option(
        flags=("-o", "--output_json"),
        group=Group.OUTPUT,
        metavar="FILE",
        default=DEFAULT_OUTPUT_JSON,
        help=f"Write the groups of duplicates as JSON (default {DEFAULT_OUTPUT_JSON}).",
        details="""
            The file holds `{key: [{"filename": ...}, ...]}`: the key is the SHA-256 of the kept image,
            which comes first in the list. An image without duplicates is a group of one. `-o ''` writes no
            file. An existing file is replaced only if an earlier run wrote it.

            Not available for streaming: the records hold the same facts.
            """,
    ),
    Option(
        flags=("--records",),
        group=Group.OUTPUT,
        metavar="FILE",
        default=f"none; when streaming `{DEFAULT_RECORDS}`",
        help="Write one record per image: its verdict, reason, digest and witness.",
        details="""
            JSON Lines, sorted by path and equal byte for byte from run to run; Avro, Parquet or CSV if the
            name ends in `.avro`, `.parquet` or `.csv`. Other endings than these, `.jsonl`, `.ndjson` and
            `.json` are refused. A name that ends in `/` is a directory of many unsorted JSON Lines files, one per
            worker; use it for large runs. An existing file is replaced only if an earlier run wrote it.

            When streaming it is always a directory. It receives a file every ten seconds in which an image
            was judged, or one file per `--window`. A file appears complete and is never changed. Copies and
            messages follow the records. The same command continues from them: what is recorded is not
            judged again. A second run that writes to the same directory is refused. `--records ''` writes
            none, and nothing is remembered after the run.
            """,
        examples=("dedup -i ~/Pictures --records r.jsonl --counts c.json",),
    ),
    Option(
        flags=("--union",),
        group=Group.OUTPUT,
        action=Action.SWITCH,
        help="Add what duplicates have to the records of kept images (with --records).",
        details="""
            Requires `--records`. The record of a kept image gets `also`, a list of the URIs, URLs, captions,
            labels, dates and positions of its duplicates, as far as their metadata have them, and
            `label_conflict`, which says whether their labels differ. At most 100 duplicates are listed, the first
            by URI; `count` says how many there are.

            It costs about 0.05 ms per image, so it is off by default.

            Not available for streaming, where the record of a kept image is written before its duplicates
            arrive.
            """,
        examples=("dedup -n -l crawl.jsonl --records r.jsonl --union",),
    ),
    *PAIR_OPTIONS,
    Option(
        flags=("--counts",),
        group=Group.OUTPUT,
        metavar="FILE",
        unset="",
        help="Write the numbers of the summary as JSON.",
        details="""
            An existing file is replaced only if an earlier run wrote it. When streaming it is a directory,
            with one file for each file of records; add them up.
            """,
    ),
    Option(
        flags=("--drop_list",),
        group=Group.OUTPUT,
        metavar="FILE",
        unset="",
        help="Write the paths of all duplicates, one per line, or NUL-separated.",
        details="""
            The list is sorted. Its name ends in `.txt`, for one path per line, or in `.nul`, for paths that end with NUL. It
            contains the duplicates, and images that `--decisions` drops: a file by its path as found under
            `-i`, with its bytes, a member of an archive by its URI (`archive!member`). A list of lines does not
            contain paths with line breaks: the run then ends with exit code 1 and says how many are missing;
            use `.nul`. An existing file is not replaced, unless it is empty.

            To remove duplicates, use `dedup clean`, which compares each with its witness before. Not available
            for streaming: the records hold the same facts.
            """,
        examples=("dedup -n -i ~/Pictures --drop_list duplicates.txt",),
    ),
    Option(
        flags=("--report",),
        group=Group.OUTPUT,
        metavar="DIR",
        unset="",
        help="Write a page to look through the duplicates: DIR/index.html.",
        details="""
            The page opens in a browser without network. It shows the groups with thumbnails, compares pictures,
            and saves your decisions as `decisions.jsonl`. The directory must be new or empty, or contain an
            earlier report, which is replaced. `dedup report RECORDS -o DIR` writes the same page from the
            records of an earlier run.

            Only for batch runs whose workers are on this machine. Not available for streaming: run
            `dedup report` over its records directory.
            """,
        examples=("dedup -n -i ~/Pictures --records r.jsonl --report review",),
    ),
)
