"""The file of decisions: what each line decides, which line wins, and which files are refused."""

import io
import itertools
import json
import pickle
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core import blocks, decisions, dropped
from beam_dedup.core.decisions import NO_DECISIONS, Decisions, pair_of, read_decisions, split_digests
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Status
from beam_dedup.core.preference import Preference
from beam_dedup.core.tables import fingerprints_of, fingerprints_table, verdicts_of

A, B, C, D = (letter * 32 for letter in (b"\xaa", b"\xbb", b"\xcc", b"\x00"))


def read(*rows: Any) -> Decisions:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return read_decisions(io.BytesIO(b"\n".join(lines)))


def pair(decision: str, *digests: bytes, **more: Any) -> dict[str, Any]:
    return {"decision": decision, "digests": [digest.hex() for digest in digests], **more}


def one(decision: str, digest: bytes, **more: Any) -> dict[str, Any]:
    return {"decision": decision, "digest": digest.hex(), **more}


def test_lists_decide_all_their_pairs() -> None:
    found = read(pair("different", C, A, B, A), pair("same", D, A))
    assert found.different_pairs() == {(A, B), (A, C), (B, C)}
    assert found == Decisions.of([(A, B), (C, B), (C, A)], [(A, D)])


def test_fields_for_people_and_blank_lines_are_ignored() -> None:
    row = one("keep", A, uri=7, time=None, other=[1])
    assert read(b"", row, b"  ") == Decisions.of(keep=[A])


def test_upper_case_digests_are_read() -> None:
    assert read({"decision": "drop", "digest": A.hex().upper()}) == Decisions.of(drop=[A])


def test_byte_order_mark_is_ignored() -> None:
    line = json.dumps(one("keep", A)).encode()
    assert read_decisions(io.BytesIO(b"\xef\xbb\xbf" + line)) == Decisions.of(keep=[A])
    with pytest.raises(ValueError, match="line 2"):
        read(one("keep", A), b"\xef\xbb\xbf" + line)


def test_later_lines_win_over_earlier_ones_about_the_same_pair_or_digest() -> None:
    """Against a plain loop over random lines. Decisions on a digest and on pairs of it do not meet."""
    for seed in range(300):
        rng = random.Random(seed)
        of_pair: dict[tuple[bytes, bytes], str] = {}
        of_digest: dict[bytes, str] = {}
        rows = []
        for _ in range(rng.randint(0, 12)):
            if rng.random() < 0.5:
                chosen = rng.sample([A, B, C, D], rng.randint(2, 3))
                rows.append(pair(rng.choice(["same", "different", "none"]), *chosen))
                of_pair |= {pair_of(*two): rows[-1]["decision"] for two in itertools.combinations(chosen, 2)}
            else:
                rows.append(one(rng.choice(["keep", "drop", "none"]), rng.choice([A, B, C])))
                of_digest[bytes.fromhex(rows[-1]["digest"])] = rows[-1]["decision"]
        expected = Decisions.of(
            [two for two, decision in of_pair.items() if decision == "different"],
            [two for two, decision in of_pair.items() if decision == "same"],
            [digest for digest, decision in of_digest.items() if decision == "keep"],
            [digest for digest, decision in of_digest.items() if decision == "drop"],
        )
        assert read(*rows) == expected


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"{", "must be one JSON object"),
        (b"[]", "must be one JSON object"),
        (b'"keep"', "must be one JSON object"),
        (b"\xff", "must be UTF-8"),
        (b"[" * 100_000, "must be one JSON object"),
        (b'{"decision": NaN}', "must be one JSON object"),
        (b"{}", "`decision` must be one of same, different, keep, drop, none; got nothing"),
        ({"decision": ["keep"]}, "`decision` must be one of"),
        ({"decision": "delete", "digest": A.hex()}, "got 'delete'"),
        (one("keep", A[1:]), "a digest must have 64 hexadecimal digits"),
        ({"decision": "keep", "digest": "g" * 64}, "a digest must have 64 hexadecimal digits"),
        ({"decision": "keep", "digest": "aa " * 21 + "a"}, "a digest must have 64 hexadecimal digits"),
        ({"decision": "keep", "digest": 7}, "got 7"),
        ({"decision": "drop"}, "got nothing"),
        (pair("drop", A, B), "`drop` needs `digest`, one digest; got `digests`"),
        (one("same", A), "`same` needs `digests`, a list; got `digest` too"),
        ({"decision": "same"}, "`digests` must be a list of digests; got nothing"),
        ({"decision": "same", "digests": A.hex()}, "`digests` must be a list"),
        (pair("different", A, A), "at least two different digests"),
        (pair("different"), "at least two different digests"),
        ({"decision": "none"}, "`none` needs either `digest` or `digests`"),
        (pair("none", A, B, digest=A.hex()), "`none` needs either"),
        (pair("same", *(bytes([1, n // 256, n % 256]) + bytes(29) for n in range(1001))), "at most 1,000"),
        (b" " * (1 << 20) + b"{}", "a line must have at most 1,048,576 bytes"),
    ],
)
def test_line_that_is_no_decision_is_named_with_the_rule(line: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: ") as raised:
        read(one("keep", A), line, one("drop", B))
    assert rule in str(raised.value)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("limit", "value", "rule"),
    [("MAX_PAIRS", 2, "2 pairs"), ("MAX_DIGESTS", 2, "2 digests"), ("MAX_BYTES", 300, "300 bytes")],
)
def test_files_are_bounded(limit: str, value: int, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [pair("different", A, B, C)]
    read(*rows)
    monkeypatch.setattr(decisions, limit, value)
    with pytest.raises(ValueError, match=f"line [12]: .* at most {rule}"):
        read(*rows, one("keep", A))


def test_decisions_that_were_taken_back_do_not_count_towards_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decisions, "MAX_DIGESTS", 1)
    assert read(one("keep", A), one("none", A), one("drop", B)) == Decisions.of(drop=[B])


def test_empty_file_decides_nothing() -> None:
    assert read() == NO_DECISIONS
    assert not NO_DECISIONS
    assert Decisions.of(drop=[A])


def test_digests_are_looked_up() -> None:
    made = Decisions.of([(B, D)], [(D, A)], [C, D], [B])
    column = pa.array([A, C, B, D, A], pa.binary(32))
    assert [split_digests(made.digests)[n] if n >= 0 else None for n in made.numbers_of(column)] == [
        A,
        None,
        B,
        D,
        A,
    ]
    assert made.are_kept(column).tolist() == [False, True, False, True, False]
    assert made.are_dropped(column).tolist() == [False, False, True, False, False]
    assert made.are_alone(column).tolist() == [True, True, True, True, True]
    assert Decisions.of(drop=[A]).are_alone(column).tolist() == [False] * 5
    assert NO_DECISIONS.numbers_of(column.slice(0, 0)).tolist() == []
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.different_numbers.dtype == np.int64


def test_dropped_images_are_rejected_and_known_ones_left_out() -> None:
    images = [
        Fingerprint(ImageRef(f"{number}", "n", '{"a": 1}', known=number == 2), digest, 5, 6, "PNG", 7, 8, "dct/2", ())
        for number, digest in enumerate([A, B, A, C])
    ]  # fmt: skip
    table = fingerprints_table(images)
    rest, verdicts = dropped.split_dropped(table, Decisions.of(drop=[A, D]), Preference())
    assert [image.ref.uri for image in fingerprints_of(rest)] == ["1", "3"]
    [verdict] = verdicts_of(verdicts)
    assert verdicts.schema == blocks.VERDICTS
    assert (verdict.ref, verdict.status, verdict.reason) == (images[0].ref, Status.REJECTED, Reason.DROPPED)
    assert (verdict.digest, verdict.format, verdict.size_bytes, verdict.width, verdict.height) == (
        A,
        "PNG",
        5,
        7,
        8,
    )
    assert verdict.witness is None
