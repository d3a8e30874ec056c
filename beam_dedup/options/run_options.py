"""Describes the options for streaming, for limits of the input, and for how a run is executed.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.core.limits import MAX_PIXELS, MAX_PIXELS_SCALED, Limits
from beam_dedup.options.defaults import DEFAULT_EXPECTED, DEFAULT_QUIET_TIME, DEFAULT_REMEMBER
from beam_dedup.options.option import Action, Group, Option, byte_size, number, whole_number

_LIMITS = Limits()
_MEMBER_MEBIBYTES = _LIMITS.max_member_bytes >> 20
_MILLION_MEMBERS = _LIMITS.max_members // 1_000_000
_MILLIONS = MAX_PIXELS // 1_000_000
_MILLIONS_WITH_TRANSPARENCY = _MILLIONS // 2
_MILLIONS_OF_32_BITS = _MILLIONS // 4

STREAMING_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--watch",),
        group=Group.STREAMING,
        action=Action.SWITCH,
        help="Judge the images of -i, then keep running and judge new ones.",
        details="""
            Requires `-i`, which names directories or prefixes of stores. A new file is read once it is
            complete (`--quiet_time`). Each image is judged within seconds against all remembered images. The first to arrive
            is kept, and its verdict is final.

            An image is identified by its URI and generation. A redelivered image is counted
            (`Redelivered_Count`) and judged once. A file that was rewritten under its old name is another
            image.

            Ctrl-C finishes what was read and ends with exit code 130; a second Ctrl-C ends at once. The
            same command continues where the last run stopped, also after a crash: what is recorded is not
            judged again, and what was read but not recorded is. `-o`, `-l`, `--reference`, `--preview` and
            `--keep` other than `first` need a batch run and are refused.
            """,
        examples=("dedup -n --watch -i incoming -d unique",),
    ),
    Option(
        flags=("--subscription",),
        group=Group.STREAMING,
        metavar="NAME",
        unset="",
        help="Judge the images that a Pub/Sub subscription announces, instead of -i.",
        details="""
            The name has the form `projects/P/subscriptions/S`. The messages are notifications of Cloud
            Storage, or JSON such as `{"uri": "gs://bucket/a.jpg"}`. They may name objects below `--allow`
            only, which is required. Otherwise it works like `--watch`.
            """,
        examples=(
            "dedup -n --subscription projects/P/subscriptions/S --allow gs://bucket-in -d gs://bucket/unique",
        ),
    ),
    Option(
        flags=("--verdict_topic",),
        group=Group.STREAMING,
        metavar="NAME",
        unset="",
        help="Publish each record as JSON to this Pub/Sub topic.",
        details="""
            The name has the form `projects/P/topics/T`. Each message has the attributes `status`, `uri` and
            `generation`. It is sent at least once, after its record is written. Requires `--watch` or
            `--subscription`.
            """,
    ),
    Option(
        flags=("--remember",),
        group=Group.STREAMING,
        metavar="DURATION",
        default=DEFAULT_REMEMBER,
        help=f"Remember images for this long to compare others with (default {DEFAULT_REMEMBER}).",
        details="""
            Divides time into periods of this length. A period's images are forgotten together, when the
            second period after it starts. An image announced more than half a period late enters the
            current one. A duration is a number and a unit (`s`, `m`, `h`, `d`), from 1m to 3650d. Requires
            `--watch` or `--subscription`; does not apply with `--window`.
            """,
    ),
    Option(
        flags=("--window",),
        group=Group.STREAMING,
        metavar="DURATION",
        help="Judge the images of each such interval as a separate batch.",
        details="""
            The first image of a window by path is kept. Each window writes its own files of records and
            counts; the end of a run is the end of its window. A duration is a number and a unit (`s`, `m`,
            `h`, `d`), from 1m to 3650d. Requires `--watch` or `--subscription`.
            """,
    ),
    Option(
        flags=("--expected_images",),
        group=Group.STREAMING,
        metavar="N",
        convert=whole_number,
        default=str(DEFAULT_EXPECTED),
        help=f"Plan the search for N images per --remember period (default {DEFAULT_EXPECTED}).",
        details="""
            From 1 to 10000000000. The number decides how the search for near duplicates is divided. The
            command prints the expected cost per image before it starts. Requires `--watch` or
            `--subscription`.
            """,
    ),
    Option(
        flags=("--quiet_time",),
        group=Group.STREAMING,
        metavar="DURATION",
        default=DEFAULT_QUIET_TIME,
        help=f"Read a watched file when it has not changed for so long (default {DEFAULT_QUIET_TIME}).",
        details="""
            Choose it longer than writers pause. A file waits 60 times as long if it has a temporary name (`.part`,
            `.tmp`, `.crdownload`, `.filepart`, `.partial`, `.NAME.XXXXXX` of rsync and others), is empty, lacks the
            end of its format, or is open for writing (on Linux, for files of the same user). Objects of a store are read at once. A duration is a number and a unit (`s`, `m`, `h`,
            `d`), from 1s to 1d. Requires `--watch`.
            """,
    ),
)

LIMITS_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--max_bytes",),
        group=Group.LIMITS,
        metavar="BYTES",
        convert=byte_size,
        default=f"{_LIMITS.max_bytes} ({_LIMITS.max_bytes >> 30} GiB)",
        help=f"Reject images of more bytes than this, unread (default {_LIMITS.max_bytes}).",
        details=f"""
            A number of bytes, or a number with a unit: `kB`, `MB`, `GB` and `TB` are powers of 1000, `KiB`,
            `MiB`, `GiB` and `TiB` powers of 1024. The reason in the record is `too_large`. A member of an archive may have
            {_LIMITS.max_member_bytes} bytes ({_MEMBER_MEBIBYTES} MiB) at most, and an archive
            {_MILLION_MEMBERS} million members.
            """,
    ),
    Option(
        flags=("--max_pixels",),
        group=Group.LIMITS,
        metavar="PIXELS",
        convert=whole_number,
        default=f"{_LIMITS.max_pixels}, which is also the maximum",
        help=f"Compare pictures of more pixels by bytes alone (default {_LIMITS.max_pixels}).",
        details=f"""
            Applies with `-n`: a picture of more pixels is not decoded. From 1 to {MAX_PIXELS_SCALED}. JPEG
            pictures reach the maximum; progressive JPEG and other formats are decoded up to {_MILLIONS}
            million pixels, pictures with transparency up to {_MILLIONS_WITH_TRANSPARENCY} million, pictures
            of 32 bits per value up to {_MILLIONS_OF_32_BITS} million.
            """,
    ),
    Option(
        flags=("--decode_timeout",),
        group=Group.LIMITS,
        metavar="SECONDS",
        convert=number,
        default=f"{_LIMITS.decode_seconds:g}",
        help=f"Reject images that take longer to read or decode (default {_LIMITS.decode_seconds:g}).",
        details="""
            From 0.1 to 86400. The reason in the record is `timeout`. The rest of an archive that cannot be
            read on for that long is rejected too. Like a file that crashes the decoder, a slow file costs
            that one image only.
            """,
    ),
)

EXECUTION_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("-j", "--num_jobs"),
        group=Group.EXECUTION,
        metavar="N",
        convert=whole_number,
        default="one per core",
        help="Decode with N processes (default one per core).",
        details="""
            From 1 to 1024. The cores are those that this process may use: its CPU affinity and the CPU quota
            of its control groups (as of a container) count. Applies to runs on this machine; other runners
            have their own options.
            """,
    ),
    Option(
        flags=("--force_plan",),
        group=Group.EXECUTION,
        action=Action.SWITCH,
        help="Run even if the work grows with the square of the number of images.",
        details="""
            Applies with `-n`. Such a plan is refused otherwise. When streaming it requires `--window`.
            """,
    ),
    Option(
        flags=("--quiet",),
        group=Group.EXECUTION,
        action=Action.SWITCH,
        excludes="--verbose",
        help="Print errors only: no progress and no summary.",
        details="A preview is printed all the same. An error is one line on the standard error stream.",
    ),
    Option(
        flags=("--verbose",),
        group=Group.EXECUTION,
        action=Action.SWITCH,
        help="Print how near duplicates were searched for too, below the counts.",
        details="""
            The summary of a batch run then has a line with the plan: into how many bands codes were cut, and
            how many candidate pairs were expected. `--counts` holds the plan in any case.
            """,
    ),
    Option(
        flags=("-h", "--help"),
        group=Group.EXECUTION,
        action=Action.SWITCH,
        help="Show this help, or the details of one option: --help OPTION.",
        details="""
            `--help --views`, `--help=views` and `-h -k` show the details of one option. Without any
            argument dedup shows the help too.
            """,
        examples=("dedup --help -k", "dedup --help=views"),
    ),
    Option(
        flags=("--beam_help",),
        group=Group.EXECUTION,
        action=Action.SWITCH,
        help="Show the options of Apache Beam, which are accepted too.",
        details="""
            All options that dedup does not know are passed to Beam, for example `--runner` and
            `--temp_location`. An option that Beam does not know either is an error that names the nearest
            known option.
            """,
    ),
    Option(
        flags=("--version",),
        group=Group.EXECUTION,
        action=Action.SWITCH,
        help="Show the version.",
    ),
)
