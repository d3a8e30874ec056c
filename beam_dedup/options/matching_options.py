"""Describes the options for what counts as a duplicate, and which copy is kept.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.core.algorithms import ALGORITHMS, DCT, DEFAULT_VIEWS, SIMHASH, Views
from beam_dedup.core.limits import MAX_PIXELS_HEAVY
from beam_dedup.core.thresholds import DEFAULT_VERIFY, LONG_BITS
from beam_dedup.options.option import Action, Group, Option, whole_number

_DCT = ALGORITHMS[DCT]
_HEAVY = " and ".join(f"`{one.name}`" for one in ALGORITHMS.values() if one.is_heavy)
_HEAVY_MILLIONS = MAX_PIXELS_HEAVY // 1_000_000

_LIBRARIES = {
    DCT: f"this project's own; verified by {LONG_BITS} bits (`--verify`); the only one with `--views` and `--turns`",
    "phash": "imagehash",
    "dhash": "imagehash",
    "ahash": "imagehash, `average_hash`",
    "whash": "imagehash",
    "colorhash": "imagehash, 3 bits per colour; it finds pictures of similar colours alike",
    "pdq": "pdqhash; install it with `pip install '.[pdq]'` in the checkout",
    SIMHASH: "this project's own; hashes the metadata of `-l` and decodes no picture",
}


def _algorithm_list() -> str:
    """The bullets of `--algorithm`: bits, default and largest -k, and library of each."""
    lines = []
    for one in ALGORITHMS.values():
        numbers = f"{one.bits} bits, `-k` {one.default_k} by default and {one.max_k} at most"
        lines.append(f"- `{one.name}`: {numbers}; {_LIBRARIES[one.name]}.")
    return "\n".join(lines)


MATCHING_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("-e", "--exact_duplicates"),
        group=Group.MATCHING,
        action=Action.SWITCH,
        excludes="-n",
        help="Find files with equal bytes only (default).",
        details="Files with equal SHA-256 are duplicates. The one that `--keep` prefers is kept.",
    ),
    Option(
        flags=("-n", "--near_duplicates"),
        group=Group.MATCHING,
        action=Action.SWITCH,
        help="Find pictures that look the same too: resized, re-encoded, lightly edited.",
        details="""
            Files with equal bytes are found first. The remaining images are then judged in the order of
            `--keep`: an image is a duplicate if its picture is within the thresholds (`-k`, `--verify`) of
            an image that is already kept. No two kept images are within the thresholds of each other, and
            every duplicate is within them of its kept image. The search is exhaustive: every pair within
            the thresholds is found.

            Decoded formats: JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, ICO, PPM and JPEG 2000, and HEIC with
            the extra `[heif]`. An image that is recognised but cannot be decoded (SVG, EPS, PDF, PSD, RAW,
            JPEG XL, damaged files) is compared by its bytes alone. A file that is no image is rejected with
            a reason.
            """,
    ),
    Option(
        flags=("-k", "--bit_distance"),
        group=Group.MATCHING,
        metavar="BITS",
        convert=whole_number,
        default=f"{_DCT.default_k}; other algorithms have their own",
        help=f"Allow BITS differing bits between two pictures' codes, 0 to {_DCT.max_k} (default {_DCT.default_k}).",
        details=f"""
            Applies with `-n`. It is the threshold of the short codes, which have {_DCT.bits} bits;
            `--verify` is the threshold of the long codes. Smaller values are stricter and faster. The range
            of `{DCT}` is 0 to {_DCT.max_k}; `--algorithm` lists the ranges and defaults of the other
            algorithms.

            Pictures with a side under 24 pixels are compared by the short code alone, within 4 bits at
            most. Pictures without structure (plain colours, gradients, blank pages) are compared by their
            colours.
            """,
        examples=("dedup -n -k 4 -i crawl -o groups.json --quiet",),
    ),
    Option(
        flags=("--verify",),
        group=Group.MATCHING,
        metavar="BITS",
        convert=whole_number,
        default=str(DEFAULT_VERIFY),
        help=f"Allow BITS differing bits between their long codes, 0 to {LONG_BITS} (default {DEFAULT_VERIFY}).",
        details=f"""
            Applies with `-n` and the algorithm `{DCT}`, the only one with long codes. A long code has
            {LONG_BITS} bits. Two pictures are near duplicates if both their short codes (`-k`) and their
            long codes are within the thresholds. {LONG_BITS} switches the check of the long codes off.
            """,
    ),
    Option(
        flags=("--algorithm",),
        group=Group.MATCHING,
        metavar="NAME",
        choices=tuple(ALGORITHMS),
        default=DCT,
        help=f"Choose the perceptual hash (default {DCT}).",
        details=f"""
            Applies with `-n`. Use another algorithm than `{DCT}` only to match hashes computed elsewhere.
            The algorithms:

            {_algorithm_list()}

            All but `{DCT}` and `{SIMHASH}` return the codes of their library, bit for bit. They hash the
            opened file as the library does: not turned by EXIF, decoded in full (2 to 20 times slower),
            without long codes, views and turns. Pictures without structure are compared by their colours
            all the same. {_HEAVY} decode pictures of up to {_HEAVY_MILLIONS} million pixels.

            The default of `-k` is the largest value at which no wrong pair was measured; `colorhash` has no
            such value, and those of `pdq` and `{SIMHASH}` are their authors' recommendations. In a record,
            `fingerprint` is the library's own hexadecimal form; the one of `colorhash` is padded with zero
            bits at the end to 16 digits.

            With `{SIMHASH}` all images of `-l` are compared by their metadata, also those that can be
            opened.
            """,
        examples=("dedup -n --algorithm phash -k 4 -i crawl --records r.jsonl",),
    ),
    Option(
        flags=("--views",),
        group=Group.MATCHING,
        metavar="NAME",
        choices=tuple(Views),
        default=DEFAULT_VIEWS.value,
        help=f"Find cropped and framed copies: none, trim, centre or crops (default {DEFAULT_VIEWS}).",
        details=f"""
            Applies with `-n` and the algorithm `{DCT}`. No single code survives a crop of more than a few
            percent or a frame. So a picture gets further codes, of parts of it; two pictures match also if
            a part of one is within the thresholds of the whole of the other. Each value includes the ones
            before it:

            - `none`: the whole picture only.
            - `trim`: the picture without its border of one colour, if it has one.
            - `centre`: the centre, cut to 95, 90, 85, 80 and 70 % of each side.
            - `crops`: without 5 and 10 % at each side and at each corner; cut to 1:1, 4:3, 16:9 and 9:16;
              turned by 2.5 degrees.

            Measured share of hard edits that each value finds, in this order and without a wrong pair: .48,
            .63, .84 and .95. More views take more time. Pictures with a side under 24 pixels, or without
            structure, have one code only. A copy that was turned and also cropped or framed is not found.
            """,
        examples=("dedup -n --views crops --turns -i crawl -d unique",),
    ),
    Option(
        flags=("--turns",),
        group=Group.MATCHING,
        action=Action.SWITCH,
        help="Find mirrored copies and copies turned by 90, 180 or 270 degrees too.",
        details=f"""
            Applies with `-n` and the algorithm `{DCT}`. All seven other orientations are compared.
            Measured: all turned copies are found. A copy that was turned and also cropped or framed is not
            found.
            """,
    ),
    Option(
        flags=("--across",),
        group=Group.MATCHING,
        action=Action.SWITCH,
        help="Compare images of different inputs only: copies within one -i are all kept.",
        details="""
            Images of one input are never duplicates of each other, only of images of another one. Use it to find what of
            a new directory you have already, and leave the order within each directory as it is.

            Each `-i` is one input, whatever it stands for: a directory, a pattern with all that it matches, an
            archive, a prefix of a store. All images of `--reference` are one more; with it, a single `-i` is enough. A
            file that two patterns reach counts to the first, but one that an input reaches only through a linked
            directory to the other. A link to a file counts to the input of that file.

            Two images are duplicates if they belong to different inputs, and have equal bytes or, with `-n`, are
            within the thresholds; everything else is as without `--across`. So all copies of a picture within one
            input are kept, or all are duplicates of one image of another input. `--keep` decides which input
            keeps a picture: by default the one whose images come first by path;
            `--keep path:~/Pictures` prefers the images of that directory.

            If several images with the same bytes are kept, `-d` copies each of them.

            Not available for streaming and `-l`.
            """,
        examples=("dedup -n -i ~/Pictures -i new --across -d more --records r.jsonl",),
    ),
    Option(
        flags=("--keep",),
        group=Group.MATCHING,
        metavar="RULES",
        action=Action.APPEND,
        default="first",
        help="Prefer images by these rules, with commas between them (default first).",
        details="""
            Of two duplicates, the first rule that distinguishes them decides which one is preferred; if none
            does, files are preferred to links, then the first by path. `kept_by` in the record of a
            duplicate names what decided. The rules:

            - `path:GLOB`: images whose path matches the glob. `--protect` explains globs; a comma in
              a glob is written `\\,`. Files are preferred to links before this rule.
            - `not:GLOB`: images whose path does not match.
            - `format:NAME`: images of this format, by content. More names after commas are preferred in this
              order, until the next rule: `format:raw,heic,png,pixels`. `raw` stands for ARW, CR2, CR3,
              DNG, NEF, ORF, PEF, RAF, RW2, SRW and raw pictures of other cameras, which are compared by their
              bytes only.
            - `pixels`, `bytes`: the one with the most.
            - `oldest`, `newest`: by modification time. The modification times of objects in stores are not
              used, so these do not apply to them.
            - `taken`: the earliest time at which it was taken (EXIF DateTimeOriginal, local time); pictures
              without one come last.
            - `metadata`: the one with the most of these: EXIF, a time in it, a position in it, XMP, IPTC.
            - `first`: the first by path. No rule may follow.
            - `largest`: `pixels,bytes`.

            The option may be given several times: `--keep path:best --keep pixels` is `--keep
            path:best,pixels`. `taken` and `metadata` are read with `-n`; without it all duplicates have the
            same. Truncated pictures rank after all whole ones, whatever the rules.

            Streaming accepts `first` only: the first image to arrive is kept.
            """,
        examples=(
            "dedup -n -i ~/Pictures --keep path:originals,not:Downloads,pixels --records r.jsonl",
            "dedup -n -i ~/Pictures --keep format:tiff,png,metadata,taken,largest --records r.jsonl",
        ),
    ),
    Option(
        flags=("--protect",),
        group=Group.MATCHING,
        metavar="GLOB",
        action=Action.APPEND,
        help="Keep all images whose path matches, whatever they duplicate.",
        details="""
            A protected image is always kept, and gets the flag `protected`. Other images may be its
            duplicates, it is never a duplicate itself; of two protected images with the same bytes both are
            kept. It is preferred to all others, whatever `--keep` says, and `dedup clean` does not touch it.
            Give the option several times for several globs.

            A glob is written as for `--exclude`, without `!`. It is compared with the absolute path of the
            image (or its URI in a store), and with its path below `-i`. It may begin at any directory of the
            path, also if it has a `/` in the middle, and matches a file, or a directory with all that is in
            it; an archive counts as a directory. A glob that begins with `/`, `~/`, `./`, `../` or `gs://`
            begins where the path begins; with `/`, that is also below each `-i`. The paths are those under
            which the run found the images: links are not resolved, but the file to which a protected link
            leads is protected too. The guide docs/guides/folders.md compares the options that take patterns.

            - `originals`: all that has this name, or is in a directory of this name.
            - `'*.dng'`: the files with this ending.
            - `/mnt/archive` or `'2019/**/print/'`: all that is below this directory.

            A truncated protected picture is kept, but near images are not its duplicates: they may be
            complete. An image that could not be opened is not protected.

            In a stream, a protected image is kept whatever arrived before it; what was kept before stays
            kept.
            """,
        examples=("dedup -n -i ~/Pictures --protect originals --records r.jsonl",),
    ),
    Option(
        flags=("--decisions",),
        group=Group.MATCHING,
        metavar="FILE",
        unset="",
        help="Honour what you decided about earlier duplicates: a JSON Lines file.",
        details="""
            A local file with one JSON object per line. Images are named by their digests (SHA-256), as in the
            records. A later line wins over an earlier one about the same pair or digest:

            - `{"decision": "different", "digests": [A, B, ...]}`: no two of these pictures are near
              duplicates of each other, whatever their codes say. Each such pair that is within the
              thresholds counts in `Pinned_Count`. Another picture that is near one of them is still a
              duplicate.
            - `{"decision": "same", "digests": [A, B, ...]}`: any two of them are near duplicates, however
              far apart. That is not passed on: if A and B are the same, and B and C, then A and C need
              not be.
            - `{"decision": "keep", "digest": A}`: this picture is never a near duplicate. Others may be its
              duplicates, and its exact copies are. If it is truncated, only its exact copies are.
            - `{"decision": "drop", "digest": A}`: all images with these bytes are rejected with the reason
              `dropped`. They are not compared and not copied. Images that match `--protect` are kept all
              the same.
            - `{"decision": "none", "digest": A}`, or with `digests`: takes an earlier decision back.

            All other fields are ignored. `keep` and `drop` win over `same`. `same`, `different` and `keep`
            apply with `-n`; files with equal bytes are duplicates in any case. Known images
            (`--reference`) take part. The distance of a pair that was declared the same is the measured one,
            or null if the two have no codes that can be compared.

            The limits are 1,000 digests in one line, 500,000 pairs and 1,000,000 digests in all. A line that
            is no decision ends the run before it begins.

            Not available for streaming.
            """,
        examples=("dedup -n -i ~/Pictures --decisions decisions.jsonl --records r.jsonl",),
    ),
)
