"""Reads the decisions that a person made about a run's images: JSON Lines, as the review page saves them.

    {"decision": "different", "digests": [HEX, HEX, ...]}   no two of these pictures are duplicates of each other
    {"decision": "same", "digests": [HEX, HEX, ...]}        any two of them are
    {"decision": "keep", "digest": HEX}                     it is never a near duplicate
    {"decision": "drop", "digest": HEX}                     it is not wanted
    {"decision": "none", "digest": HEX}                     takes an earlier `keep` or `drop` back
    {"decision": "none", "digests": [HEX, HEX, ...]}        takes earlier `same` and `different` back

Digests are SHA-256 in hex, as in the records. Other fields (`uri`, `uris`, `time`, ...) are for people and ignored.
A later line wins over an earlier one about the same pair or digest.
"""

import codecs
import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import strict_json
from beam_dedup.core.codes import BoolArray, IntArray

DIGEST_BYTES = 32
MAX_LINE_BYTES = 1 << 20
MAX_BYTES = 1 << 30  # of a file
MAX_LIST = 1_000  # digests in one decision
# The decisions of a run travel with the job to all workers: these limits keep them below 40 MB, usually far below. A
# review page has at most 500,000 duplicates. To accept them all makes as many pairs, of up to twice as many digests.
MAX_PAIRS = 500_000
MAX_DIGESTS = 1_000_000  # in all decisions together

_PAIR_DECISIONS = ("same", "different")
_DIGEST_DECISIONS = ("keep", "drop")
_NONE = "none"
_DECISIONS = (*_PAIR_DECISIONS, *_DIGEST_DECISIONS, _NONE)

Pair = tuple[bytes, bytes]  # two digests, the smaller one first


@dataclasses.dataclass(frozen=True, slots=True)
class Decisions:
    """What a person decided about digests and pairs of digests, packed, so that it is small on its way to the workers.

    Args:
      digests: those in pairs, sorted, 32 bytes each. Their index is their number.
      different: the pairs that are never within k: two int32 numbers each, the smaller one first.
      same: the pairs that are within k, in the same form.
      keep: the digests that are never near duplicates, sorted, 32 bytes each.
      drop: the digests that are rejected, sorted, 32 bytes each.
    """

    digests: bytes = b""
    different: bytes = b""
    same: bytes = b""
    keep: bytes = b""
    drop: bytes = b""

    @classmethod
    def of(
        cls,
        different: Iterable[Pair] = (),
        same: Iterable[Pair] = (),
        keep: Iterable[bytes] = (),
        drop: Iterable[bytes] = (),
    ) -> "Decisions":
        """Returns decisions about digests of 32 bytes. The digests of a pair may be in any order."""
        both = [sorted({pair_of(*pair) for pair in pairs}) for pairs in (different, same)]
        digests = sorted(set(itertools.chain.from_iterable(itertools.chain(*both))))
        number = {digest: index for index, digest in enumerate(digests)}
        packed = (np.array([(number[a], number[b]) for a, b in pairs], np.int32).tobytes() for pairs in both)
        return cls(b"".join(digests), *packed, *(b"".join(sorted(set(some))) for some in (keep, drop)))

    def __bool__(self) -> bool:
        return any((self.different, self.same, self.keep, self.drop))

    def numbers_of(self, digests: pa.Array) -> IntArray:
        """Returns the number of each digest; -1 if it is in no pair."""
        return np.asarray(pc.fill_null(pc.index_in(_fixed(digests), _values(self.digests)), -1)).astype(
            np.int64
        )

    def are_kept(self, digests: pa.Array) -> BoolArray:
        """Returns which digests are never near duplicates."""
        return np.asarray(pc.is_in(_fixed(digests), _values(self.keep))).astype(bool)

    def are_dropped(self, digests: pa.Array) -> BoolArray:
        """Returns which digests are rejected."""
        return np.asarray(pc.is_in(_fixed(digests), _values(self.drop))).astype(bool)

    def are_alone(self, digests: pa.Array) -> BoolArray:
        """Returns which digests are in a pair or kept, so that an equal picture may get another verdict."""
        return (self.numbers_of(digests) >= 0) | self.are_kept(digests)

    @property
    def digest_count(self) -> int:
        """The number of digests in pairs."""
        return len(self.digests) // DIGEST_BYTES

    @property
    def different_numbers(self) -> IntArray:
        """(pairs, 2) the numbers of the digests."""
        return _numbers(self.different)

    @property
    def same_numbers(self) -> IntArray:
        """(pairs, 2) the numbers of the digests."""
        return _numbers(self.same)

    def different_pairs(self) -> frozenset[Pair]:
        """Returns the pairs of digests that are never within k."""
        return self._pairs(self.different_numbers)

    def same_pairs(self) -> frozenset[Pair]:
        """Returns the pairs of digests that are within k."""
        return self._pairs(self.same_numbers)

    def _pairs(self, numbers: IntArray) -> frozenset[Pair]:
        digests = split_digests(self.digests)
        return frozenset((digests[a], digests[b]) for a, b in numbers.tolist())


NO_DECISIONS = Decisions()


def pair_of(one: bytes, other: bytes) -> Pair:
    """Returns two digests as a pair."""
    return (one, other) if one < other else (other, one)


def split_digests(joined: bytes) -> list[bytes]:
    """Returns digests that were joined."""
    return [joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES)]


def _numbers(packed: bytes) -> IntArray:
    return np.frombuffer(packed, np.int32).astype(np.int64).reshape(-1, 2)


def _values(joined: bytes) -> pa.Array:
    return pa.Array.from_buffers(
        pa.binary(DIGEST_BYTES), len(joined) // DIGEST_BYTES, [None, pa.py_buffer(joined)]
    )


def _fixed(digests: pa.Array) -> pa.Array:
    return digests.cast(pa.binary(DIGEST_BYTES))


def read_decisions(stream: BinaryIO) -> Decisions:
    """Returns the decisions in a file.

    Raises:
      ValueError: a line is no decision, or the file is too large; the message says which line, and why.
    """
    of_pair: dict[Pair, str] = {}
    of_digest: dict[bytes, str] = {}
    number = size = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if number == 0:
            line = line.removeprefix(codecs.BOM_UTF8)  # as some editors write it
        number += 1
        size += len(line)
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"a line must have at most {MAX_LINE_BYTES:,} bytes")
            if line.strip():
                _add(line, of_pair, of_digest)
            if size > MAX_BYTES:
                raise ValueError(f"a file must have at most {MAX_BYTES:,} bytes")
            if len(of_pair) > MAX_PAIRS:
                raise ValueError(f"the decisions must name at most {MAX_PAIRS:,} pairs")
            if len(of_digest) > MAX_DIGESTS:
                raise ValueError(f"the decisions must name at most {MAX_DIGESTS:,} digests")
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from error
    if len(set(itertools.chain.from_iterable(of_pair))) > MAX_DIGESTS:
        raise ValueError(f"line {number}: the decisions must name at most {MAX_DIGESTS:,} digests")

    def pairs(decision: str) -> list[Pair]:
        return [pair for pair, decided in of_pair.items() if decided == decision]

    def digests(decision: str) -> list[bytes]:
        return [digest for digest, decided in of_digest.items() if decided == decision]

    return Decisions.of(pairs("different"), pairs("same"), digests("keep"), digests("drop"))


def _add(line: bytes, of_pair: dict[Pair, str], of_digest: dict[bytes, str]) -> None:
    """Adds the decision of one line to those of earlier lines.

    Raises:
      ValueError, TypeError: the line is no decision.
    """
    try:
        row = strict_json.parse(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it must be UTF-8") from None
    except ValueError as error:
        raise ValueError(f"it must be one JSON object ({error})") from None
    if not isinstance(row, dict):
        raise TypeError("it must be one JSON object")
    decision = row.get("decision")
    if decision not in _DECISIONS:
        raise ValueError(f"`decision` must be one of {', '.join(_DECISIONS)}; got {_quoted(decision)}")
    has_list = "digests" in row
    if decision == _NONE and has_list == ("digest" in row):
        raise ValueError("`none` needs either `digest` or `digests`")
    if decision in _PAIR_DECISIONS or (decision == _NONE and has_list):
        if "digest" in row:
            raise ValueError(f"`{decision}` needs `digests`, a list; got `digest` too")
        for pair in itertools.combinations(_digests_in(row), 2):
            _set(of_pair, pair, decision)
        return
    if has_list:
        raise ValueError(f"`{decision}` needs `digest`, one digest; got `digests`")
    _set(of_digest, _digest(row.get("digest")), decision)


def _set(decided: dict[Any, str], key: Any, decision: str) -> None:
    if decision == _NONE:
        decided.pop(key, None)
    else:
        decided[key] = decision


def _digests_in(row: Mapping[str, Any]) -> list[bytes]:
    """Returns the digests of a list, sorted, each once."""
    given = row.get("digests")
    if not isinstance(given, list):
        raise TypeError(f"`digests` must be a list of digests; got {_quoted(given)}")
    if len(given) > MAX_LIST:
        raise ValueError(f"`digests` must have at most {MAX_LIST:,} digests; got {len(given):,}")
    digests = sorted({_digest(one) for one in given})
    if len(digests) < 2:
        raise ValueError(
            "`digests` must have at least two different digests; equal bytes are always duplicates"
        )
    return digests


def _digest(given: Any) -> bytes:
    if isinstance(given, str) and len(given) == 2 * DIGEST_BYTES and given.isascii() and given.isalnum():
        try:
            return bytes.fromhex(given)
        except ValueError:
            pass
    raise ValueError(f"a digest must have {2 * DIGEST_BYTES} hexadecimal digits; got {_quoted(given)}")


def _quoted(value: Any) -> str:
    return "nothing" if value is None else ascii(value)[:80]
