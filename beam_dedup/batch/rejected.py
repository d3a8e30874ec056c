"""Says what rejected files are, by kind, and what to do if nothing could be judged."""

from collections.abc import Mapping

from beam_dedup.core.imaging.other_kinds import KINDS, Kind, phrase
from beam_dedup.core.metadata.row import PATH_KEY
from beam_dedup.core.model import Reason
from beam_dedup.core.names import shown
from beam_dedup.core.overview import Overview, RejectedKind
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.suggest import pasteable
from beam_dedup.texts import counted

MAX_PHRASES = 8
_SAME_PATH = "Every worker must find the input under the same path as this machine"

_PARQUET = "Parquet"
_WITH_COLUMN = ("Arrow", "TFRecord")  # formats that only --image_column reads
_TABLE_ENDINGS = (".parquet", ".arrow", ".feather")
_ROWS_OF_FILES = (_PARQUET, "Avro", "JSON")  # formats that -l may read


def kinds_text(rejected: Mapping[RejectedKind, int], max_phrases: int = MAX_PHRASES) -> str:
    """Returns what the rejected files are, the most frequent kind first.

    >>> kinds_text({RejectedKind("empty", ".jpg"): 1, RejectedKind("not_an_image", "MP4"): 9})
    '9 MP4 videos, 1 .jpg file (empty)'
    """
    ordered = sorted(rejected, key=lambda kind: (-rejected[kind], kind))
    phrases = [_phrase(kind, rejected[kind]) for kind in ordered[:max_phrases]]
    if others := sum(rejected[kind] for kind in ordered[max_phrases:]):
        phrases.append(f"{others:,} others")
    return ", ".join(phrases)


def _phrase(kind: RejectedKind, count: int) -> str:
    if kind.kind in KINDS:
        return phrase(kind.kind, count)
    noun = "row" if kind.reason == Reason.MALFORMED else f"{kind.kind or 'other'} file"
    return f"{counted(count, noun)} ({kind.reason})"


def nothing_judged(config: DedupConfig, overview: Overview) -> str:
    """Returns the error of a run whose inputs were all rejected: what they are, and what to do about the most frequent kind."""
    rejected = overview.rejected
    total = sum(rejected.values())
    kind = min(rejected, key=lambda one: (-rejected[one], one))
    items = "row" if config.json_metadata else "file"
    every = f"the only {items}" if total == 1 else f"all {counted(total, items)}"
    verb = "was" if total == 1 else "were"
    return (
        f"no image could be judged: {every} {verb} rejected ({kinds_text(rejected)}). "
        f"{_advice(config, kind, overview)}"
    )


def nothing_judged_elsewhere(config: DedupConfig, reasons: Mapping[str, int]) -> str:
    """Returns the error of a run on other machines whose inputs were all rejected: how many, by reason, and what to do."""
    total = sum(reasons.values())
    found = ", ".join(
        f"{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    )
    return (
        f"no image of {sources(config)} could be judged: {total:,} of {total:,} were rejected ({found}). "
        f"{_SAME_PATH if Reason.NOT_FOUND in reasons else '--records says more'}"
    )


def nothing_read(config: DedupConfig, *, elsewhere: bool, excluded: str = "") -> str:
    """Returns the error of a run on another runner that has read no image.

    Args:
      config: the options of the run.
      elsewhere: whether the workers may run on other machines.
      excluded: what was left out of the inputs; "" if nothing was.
    """
    if excluded:
        return f"no image was read: everything in {sources(config)} was left out: {excluded}"
    advice = f". {_SAME_PATH}" if elsewhere else ""
    return f"no image was read: nothing was found in {sources(config)}{advice}"


def sources(config: DedupConfig) -> str:
    """Returns the names of the inputs, as a list in a sentence."""
    return ", ".join(map(shown, config.inputs)) if config.inputs else shown(config.json_metadata)


def _advice(config: DedupConfig, kind: RejectedKind, overview: Overview) -> str:
    uri, detail = overview.examples[kind]
    if kind.reason == Reason.MALFORMED:
        key = config.path_field or PATH_KEY
        other = "" if config.path_field else ", or under another key that --path_field names"
        return f"Each row must have the path of an image under the key {key}{other}; {shown(uri)}: {shown(detail)}"
    if kind.reason == Reason.NOT_FOUND and config.json_metadata:
        start = "directory of the list" if config.path_field else "current directory"
        return f"Check the paths; relative ones are relative to the {start}. The first is {shown(uri)}"
    what = KINDS.get(kind.kind)
    if kind.reason == Reason.NOT_AN_IMAGE and kind.kind in _WITH_COLUMN and detail:
        return f"{shown(uri)} is {shown(detail)}. If it holds images, add --image_column NAME"
    if kind.reason == Reason.NOT_AN_IMAGE and what:
        if kind.kind in _ROWS_OF_FILES and not config.json_metadata:
            command = f"-l {pasteable(uri)}" if pasteable(uri) else "-l"
            paths = f"If its rows name images by their paths, replace -i by {command} --path_field NAME"
            if kind.kind == _PARQUET:
                holds = f"{shown(uri)} is {shown(detail)}. " if detail else ""
                return f"{holds}If it holds images, add --image_column NAME. {paths}"
            return f"{paths}. Images stored inside such a file are not read; export them to files first"
        return _ADVICE[what]
    if kind.reason == Reason.UNSUPPORTED and config.limits.image_column and kind.kind in _TABLE_ENDINGS:
        return f"The first is {shown(uri)}: {shown(detail)}. Name another column by --image_column"
    if kind.reason == Reason.UNSUPPORTED and detail:
        return f"The first is {shown(uri)}: {shown(detail)}. {_ADVICE[Kind.ARCHIVE]}"
    meaning = Reason(kind.reason).meaning.removeprefix("rejected: ")
    return f"The first is {shown(uri)}: {meaning}" + (f" ({shown(detail)})" if detail else "")


_READ = "dedup reads images, and tar, zip and WARC archives of images"
_ADVICE: dict[Kind, str] = {
    Kind.VIDEO: f"{_READ}. To compare frames of videos, extract them first, for example with ffmpeg",
    Kind.AUDIO: _READ,
    Kind.DATA: f"{_READ}. Export images that are stored in data files to files first",
    Kind.ARCHIVE: f"{_READ}. Extract archives of other kinds first",
    Kind.TEXT: _READ,
    Kind.PROGRAM: _READ,
    Kind.DOCUMENT: f"{_READ}. Extract images from documents first",
}
