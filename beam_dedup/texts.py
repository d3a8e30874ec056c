"""Writes counts and sizes for people."""

from collections.abc import Mapping

_UNITS = ("kB", "MB", "GB", "TB")


def counted(count: int, noun: str) -> str:
    """
    >>> counted(1, "group"), counted(1200, "group")
    ('1 group', '1,200 groups')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_text(size: int) -> str:
    """Returns a number of bytes for people, in powers of 1000.

    >>> size_text(999), size_text(1500), size_text(999_960), size_text(3 * 10**15)
    ('999 bytes', '1.5 kB', '1.0 MB', '3,000.0 TB')
    """
    if size < 1000:
        return counted(size, "byte")
    value = size / 1000
    for unit in _UNITS[:-1]:
        if round(value, 1) < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} {_UNITS[-1]}"


def excluded_text(excluded: Mapping[str, Mapping[str, int]]) -> str:
    """Returns what was left out of the inputs, in one line; "" if nothing was.

    >>> excluded_text({"directories": {"--exclude": 1, "@eaDir": 2}, "files": {"--min_size": 9}})
    '3 directories (2 @eaDir, 1 by --exclude), 9 files (by --min_size)'

    Args:
      excluded: the numbers of "directories" and "files", by cause: an option, the name of a directory, or "" if it is not
        known.
    """
    parts = []
    for kind, one in (("directories", "directory"), ("files", "file")):
        causes = excluded.get(kind, {})
        if total := sum(causes.values()):
            parts.append(f"{total:,} {one if total == 1 else kind}{_causes_text(causes)}")
    return ", ".join(parts)


def _causes_text(causes: Mapping[str, int]) -> str:
    """Returns the causes, the most frequent one first, in parentheses; "" if they are not known."""
    ordered = sorted(filter(None, causes), key=lambda cause: (-causes[cause], cause))
    texts = [f"by {cause}" if cause.startswith("--") else cause for cause in ordered]
    if len(ordered) > 1:
        texts = [f"{causes[cause]:,} {text}" for cause, text in zip(ordered, texts, strict=True)]
    return f" ({', '.join(texts)})" if texts else ""
