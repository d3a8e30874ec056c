"""Suggests what was meant by a misspelt option or path, in a form that can be pasted into a shell."""

import difflib
import itertools
import os
import shlex
from collections.abc import Collection, Iterable

MAX_ENTRIES = 10_000  # of a directory that are compared with a misspelt name
# Beam has hundreds of options, some of which resemble any misspelling. An option of dedup is suggested if it resembles the
# misspelling almost as much as the nearest option of Beam.
_HEAD_START = 0.1
_MIN_SIMILARITY = 0.6
_SYNONYMS = {
    "--dry_run": "--preview",
    "--dryrun": "--preview",
    "--dry": "--preview",
    "--simulate": "--preview",
    "--what_if": "--preview",
}


def nearest_option(flag: str, own: Collection[str], others: Iterable[str] = ()) -> str:
    """Returns the option that was probably meant; "" if none is near.

    Args:
      flag: what was given.
      own: the options of dedup, which are preferred.
      others: the options of Beam.

    >>> (
    ...     nearest_option("--recrods", ["--records"], ["--resource_hints"]),
    ...     nearest_option("--near", ["--near_duplicates"]),
    ... )
    ('--records', '--near_duplicates')
    >>> (
    ...     nearest_option("--runer", ["--turns"], ["--runner"]),
    ...     nearest_option("--zzz", ["--turns"], ["--runner"]),
    ... )
    ('--runner', '')
    """
    plain = flag.replace("-", "_").replace("__", "--", 1) if flag.startswith("--") else flag
    if plain in _SYNONYMS:
        return _SYNONYMS[plain]
    if len(plain) > len("--x") and (longer := [option for option in own if option.startswith(plain)]):
        return longer[0]
    ours, similarity = _most_similar(plain, own)
    beams, similarity_of_beams = _most_similar(plain, others)
    if max(similarity, similarity_of_beams) < _MIN_SIMILARITY:
        return ""
    nearest = ours if similarity >= max(_MIN_SIMILARITY, similarity_of_beams - _HEAD_START) else beams
    return _SYNONYMS.get(nearest, nearest)


def _most_similar(text: str, known: Iterable[str]) -> tuple[str, float]:
    """Returns the most similar of the known texts, and its similarity from 0 to 1."""
    scored = [(difflib.SequenceMatcher(None, text, one).ratio(), one) for one in known]
    similarity, best = max(scored, default=(0.0, ""))
    return best, similarity


def nearest_path(path: str) -> str:
    """Returns the existing path that was probably meant by a path that does not exist; "" if none is near.

    Only one part of the path may differ. At most `MAX_ENTRIES` names of its directory are compared.
    """
    missing, rest = path.rstrip("/"), list[str]()
    while missing and not os.path.isdir(parent := os.path.dirname(missing) or "."):
        rest.insert(0, os.path.basename(missing))
        missing = os.path.dirname(missing)
    if not missing:
        return ""
    name = os.path.basename(missing)
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES)]
    except OSError:
        return ""
    by_folded = {one.casefold(): one for one in sorted(names)}
    for folded in difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=_MIN_SIMILARITY):
        found = os.path.join(os.path.dirname(missing), by_folded[folded], *rest)
        if os.path.exists(found):
            return found
    return ""


def pasteable(path: str) -> str:
    """Returns a path as a shell takes it for one word; "" if it can't be shown on one line.

    >>> print(pasteable("Pictures"), pasteable("my $photos"), pasteable("-i"), repr(pasteable("a\\nb")))
    Pictures 'my $photos' ./-i ''
    """
    if not path.isprintable():
        return ""
    return shlex.quote(os.path.join(".", path) if path.startswith("-") else path)
