"""Writes counts and sizes for people."""

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
