"""Tests `DeduplicateRows` and `FingerprintRows`: rows in, rows out."""

import collections
import io
import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import schema_pb2
from apache_beam.testing import test_stream
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, Repeatedly
from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, TimestampedValue
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import schema_from_element_type
from apache_beam.utils.timestamp import Timestamp

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.decisions import Decisions
from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import RECORD_FIELDS
from tests.app.cli_runs import dedup
from tests.core.archives.made_archives import zipped
from tests.transforms.files import encoded, write
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import DeduplicateRows, FingerprintRows
from transforms.read import list_files
from transforms.read_settings import ReadSettings
from transforms.row_schema import FINGERPRINT_FIELDS, VERDICT_FIELDS

NEAR = ReadSettings(recipe=Recipe())
# Beam takes a `bytes | None` in a schema for Any.
_TABLE: list[tuple[str, Any]] = [("uri", str), ("image", Optional[bytes]), ("label", str)]  # noqa: UP045
TABLE = RowTypeConstraint.from_fields(_TABLE)


def judged(
    rows: Sequence[Any],
    transform: Any,
    *flags: str,
    row_type: Any = None,
) -> list[dict[str, Any]]:
    """Returns the rows that a composite makes of rows, as dictionaries, in any order."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        given = pipeline | "Rows" >> beam.Create(rows)
        if row_type is not None:
            given = given | "Typed" >> beam.Map(same).with_output_types(row_type)
        return {"rows": given | "Do" >> transform}

    return [as_fields(row) for row in run(build, *flags).values["rows"]]


def same(row: Any) -> Any:
    return row


def as_fields(row: Any) -> dict[str, Any]:
    fields = row._asdict() if hasattr(row, "_asdict") else row.__dict__
    return {name: as_fields(value) if hasattr(value, "_asdict") else value for name, value in fields.items()}


def canonical(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


def records_of(folder: Path, outputs: Path, flag: str) -> dict[str, dict[str, Any]]:
    """Runs the command on a directory, and returns its records by URI."""
    assert dedup(flag, "-i", folder, "--records", outputs / "r.jsonl", "--quiet") == 0
    return by_uri([json.loads(line) for line in (outputs / "r.jsonl").read_text("utf-8").splitlines()])


def by_uri(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({row["uri"] for row in rows}) == len(rows)
    return {row["uri"]: row for row in rows}


class TestAgreement:
    @pytest.mark.parametrize("flag", [pytest.param("-e", marks=pytest.mark.slow), "-n"])
    def test_rows_by_uri_and_by_bytes_and_the_command_agree(
        self, flag: str, samples: Path, tmp_path: Path
    ) -> None:
        records = records_of(samples, tmp_path, flag)
        expected = {uri: {name: record[name] for name in VERDICT_FIELDS} for uri, record in records.items()}
        assert len(expected) > 20
        paths = [str(samples / name) for name in list_files(str(samples))]
        random.Random(flag).shuffle(paths)
        deduplicate = DeduplicateRows(settings=NEAR if flag == "-n" else ReadSettings())
        assert by_uri(judged([beam.Row(uri=path) for path in paths], deduplicate)) == expected
        with_bytes = [beam.Row(uri=path, image=Path(path).read_bytes()) for path in paths]
        assert by_uri(judged(with_bytes, deduplicate)) == expected

    def test_fingerprints_equal_those_of_the_command(self, samples: Path, tmp_path: Path) -> None:
        records = records_of(samples, tmp_path, "-n")
        found = by_uri(judged([beam.Row(uri=uri) for uri in records], FingerprintRows()))
        assert found.keys() == records.keys()
        for uri, row in found.items():
            reason = records[uri]["reason"] if records[uri]["status"] == "rejected" else None
            assert row == {name: records[uri][name] for name in FINGERPRINT_FIELDS} | {"reason": reason}


PICTURES = [encoded(seed) for seed in (1, 2)] + [encoded(1, compress_level=1), encoded(3), b"no picture", b""]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_every_row_has_one_verdict_whatever_the_order(seed: int) -> None:
    """Rows may be equal in any of their fields, and in all of them."""
    rng = random.Random(seed)
    rows = [
        {"uri": rng.choice("ab"), "image": rng.choice([*PICTURES, None]), "label": rng.choice("xy")}
        for _ in range(60)
    ]
    answers = []
    for flags in ((), REPEATED, *((THREADS,) if seed else ())):
        rng.shuffle(rows)
        transform = DeduplicateRows(settings=NEAR, digest_shards=rng.choice([1, 3, 64]))
        found = judged([beam.Row(**row) for row in rows], transform, *flags, row_type=TABLE)
        answers.append(canonical(found))
    assert answers[1:] == answers[:1] * (len(answers) - 1)
    assert collections.Counter((row["uri"], row["label"]) for row in found) == collections.Counter(
        (row["uri"], row["label"]) for row in rows
    )
    kept = [row for row in found if row["status"] == "kept"]
    # Pictures 0 and 2 have equal codes. Of every other one a single row is kept.
    assert len(kept) == len({row["fingerprint"] for row in kept}) == 3
    for row in found:
        if row["status"] == "duplicate":
            assert any(row["duplicate_of"] == one["uri"] and row["group"] == one["digest"] for one in kept)
        # The preferred row has the least URI.
    for one in kept:
        assert one["uri"] == min(row["uri"] for row in found if row["fingerprint"] == one["fingerprint"])
    assert {row["reason"] for row in found if row["status"] == "rejected"} == {"not_an_image", "empty"}


def test_rows_of_one_uri_and_different_bytes_are_judged_apart() -> None:
    """Each of the two rows `a` is compared with its own picture."""
    images = [("0", "0", encoded(1, compress_level=1)), ("a", "1", encoded(1)), ("a", "2", encoded(2))]
    rows = [beam.Row(uri=uri, image=data, name=name) for uri, name, data in images]
    found = {row["name"]: row for row in judged(rows, DeduplicateRows(settings=NEAR, digest_shards=1))}
    assert {name: (row["status"], row["duplicate_of"]) for name, row in found.items()} == {
        "0": ("kept", None),
        "1": ("duplicate", "0"),
        "2": ("kept", None),
    }


class TestRejections:
    ROWS = (
        beam.Row(uri="null", image=None, label="1"),
        beam.Row(uri="empty", image=b"", label="2"),
        beam.Row(uri="text", image=b"no picture", label="3"),
        beam.Row(uri="good", image=PICTURES[0], label="4"),
    )

    def test_bad_bytes_are_rejected_with_reasons(self) -> None:
        found = by_uri(judged(self.ROWS, DeduplicateRows(settings=NEAR), row_type=TABLE))
        assert {uri: (row["status"], row["reason"], row["label"]) for uri, row in found.items()} == {
            "null": ("rejected", "empty", "1"),
            "empty": ("rejected", "empty", "2"),
            "text": ("rejected", "not_an_image", "3"),
            "good": ("kept", None, "4"),
        }
        assert found["null"]["detail"] == "the field image is null"

    def test_bad_uris_are_rejected_with_reasons(self, tmp_path: Path) -> None:
        write(tmp_path / "notes.jpg", b"no picture")
        fields: list[tuple[str, Any]] = [("path", Optional[str])]  # noqa: UP045
        row_type = RowTypeConstraint.from_fields(fields)
        paths = [None, "", str(tmp_path / "notes.jpg"), str(tmp_path / "gone.jpg"), str(tmp_path), "a\0b"]
        found = judged(
            [beam.Row(path=path) for path in paths], DeduplicateRows(uri_field="path"), row_type=row_type
        )
        assert {row["path"]: (row["reason"], row["uri"]) for row in found} == {
            None: ("malformed", ""),
            "": ("malformed", ""),
            paths[2]: ("not_an_image", paths[2]),
            paths[3]: ("not_found", paths[3]),
            paths[4]: ("unreadable", paths[4]),
            "a\0b": ("not_found", "a\0b"),
        }
        assert {row["detail"] for row in found if not row["path"]} == {"the field path is empty or null"}

    @pytest.mark.parametrize("transform", [DeduplicateRows, FingerprintRows])
    def test_rejected_images_go_to_the_output_for_errors(self, transform: Any) -> None:
        to_errors = transform(settings=NEAR, error_handling={"output": "bad"})

        def build(pipeline: beam.Pipeline) -> Any:
            rows = pipeline | beam.Create(self.ROWS) | beam.Map(same).with_output_types(TABLE)
            return rows | to_errors

        values = run(build).values
        good, bad = (list(map(as_fields, values[name])) for name in ("good", "bad"))
        assert [row["uri"] for row in good] == ["good"]
        assert {
            row["element"]["uri"]: (row["element"]["label"], row["msg"], row["stack"]) for row in bad
        } == {
            "null": ("1", "empty: the field image is null", ""),
            "empty": ("2", "empty", ""),
            "text": ("3", "not_an_image: first bytes: b'no picture'", ""),
        }

    def test_limits_apply_to_bytes(self) -> None:
        limits = Limits(max_bytes=len(PICTURES[0]))
        rows = [beam.Row(uri=str(n), image=PICTURES[0] + bytes(n)) for n in range(3)]
        settings = ReadSettings(recipe=Recipe(), limits=limits)
        found = by_uri(judged(rows, DeduplicateRows(settings=settings)))
        assert [found[str(n)]["reason"] for n in range(3)] == [None, "too_large", "too_large"]


class TestArchives:
    def test_members_have_the_fields_of_their_row(self, tmp_path: Path) -> None:
        data = zipped({"x.png": PICTURES[0], "y.png": PICTURES[1]})
        write(tmp_path / "a.zip", data)
        expected = {"x.png": ("kept", "l"), "y.png": ("kept", "l")}
        found = judged([beam.Row(uri="s3://b/a.zip", image=data, label="l")], DeduplicateRows())
        assert {row["uri"].rpartition("!")[2]: (row["status"], row["label"]) for row in found} == expected
        assert {row["uri"].rpartition("!")[0] for row in found} == {"s3://b/a.zip"}
        found = judged([beam.Row(uri=str(tmp_path / "a.zip"), label="l")], DeduplicateRows())
        assert {row["uri"].rpartition("!")[2]: (row["status"], row["label"]) for row in found} == expected

    def test_sidecar_of_an_archive_can_not_change_the_row(self) -> None:
        """WebDataset: the JSON beside an image becomes its metadata."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, data in (
                ("1.png", PICTURES[0]),
                ("1.json", b'{"row": "AAA", "generation": "row-", "caption": "c"}'),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        [row] = judged([beam.Row(uri="a.tar", image=archive.getvalue(), label="l")], DeduplicateRows())
        assert (row["label"], row["status"]) == ("l", "kept")
        assert '"caption": "c"' in row["metadata"]


class Nested(NamedTuple):
    words: Sequence[str]
    score: float | None


class Whole(NamedTuple):
    path: str
    number: int
    missing: int | None
    nested: Nested
    raw: bytes
    at: Timestamp


def test_carried_fields_keep_their_values_and_types(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.png", PICTURES[0]))
    row = Whole(path, 7, None, Nested(["a", "b"], 0.5), b"\xff\0", Timestamp(5))
    transform = DeduplicateRows(uri_field="path", prefix="dedup_")
    [found] = judged([row], transform, row_type=Whole)
    assert found["dedup_status"] == "kept"
    assert found["nested"].pop("words") == ["a", "b"]
    carried = {name: value for name, value in found.items() if not name.startswith("dedup_")}
    assert carried == {
        "path": path,
        "number": 7,
        "missing": None,
        "nested": {"score": 0.5},
        "raw": b"\xff\0",
        "at": Timestamp(5),
    }
    [found] = judged([row], DeduplicateRows(uri_field="path", carry=["number"]), row_type=Whole)
    assert found.keys() == {*VERDICT_FIELDS, "number"}


def test_images_of_bytes_without_uri_are_named_by_their_digest() -> None:
    rows = [beam.Row(image=PICTURES[number], n=n) for n, number in enumerate((0, 0, 1))]
    found = judged(rows, DeduplicateRows())
    assert {(row["status"], row["uri"] == f"sha256:{row['digest']}") for row in found} == {
        ("kept", True),
        ("duplicate", True),
    }
    assert sorted(row["n"] for row in found) == [0, 1, 2]


def test_decisions_apply_to_rows() -> None:
    rows = [beam.Row(uri=name, image=data) for name, data in zip("ab", PICTURES[:3:2], strict=True)]
    assert {row["status"] for row in judged(rows, DeduplicateRows(settings=NEAR))} == {"kept", "duplicate"}
    digests = [bytes.fromhex(row["digest"]) for row in judged(rows, FingerprintRows())]
    apart = DeduplicateRows(settings=NEAR, decisions=Decisions.of(different=[(digests[0], digests[1])]))
    assert {row["status"] for row in judged(rows, apart)} == {"kept"}


class TestWindows:
    def test_each_window_is_judged_by_itself(self) -> None:
        def build(pipeline: beam.Pipeline) -> dict[str, Any]:
            rows = (
                pipeline
                | beam.Create([(0, "a"), (1, "b"), (70, "c")])
                | beam.MapTuple(at_time).with_output_types(TABLE)
                | beam.WindowInto(FixedWindows(60))
            )
            return {"rows": rows | DeduplicateRows()}

        ran = run(build)
        found = {
            row.uri: (row.status, window)
            for row, window in zip(ran.values["rows"], ran.windows["rows"], strict=True)
        }
        assert found == {"a": ("kept", 0), "b": ("duplicate", 0), "c": ("kept", 60)}

    @pytest.mark.parametrize(
        "window",
        [
            beam.WindowInto(GlobalWindows()),
            beam.WindowInto(Sessions(10)),
            beam.WindowInto(FixedWindows(10), allowed_lateness=5),
            beam.WindowInto(
                FixedWindows(10),
                trigger=Repeatedly(AfterCount(1)),
                accumulation_mode=AccumulationMode.DISCARDING,
            ),
        ],
    )
    def test_unbounded_rows_without_suitable_windows_are_refused(self, window: Any) -> None:
        with pytest.raises(UsageError, match=r"unbounded.*apply beam.WindowInto\(FixedWindows"):
            unbounded() | "Window" >> window | DeduplicateRows()

    def test_unbounded_rows_in_fixed_windows_are_accepted(self) -> None:
        verdicts = unbounded() | "Window" >> beam.WindowInto(FixedWindows(10)) | DeduplicateRows()
        assert not verdicts.is_bounded
        assert not (unbounded() | FingerprintRows()).is_bounded


def at_time(seconds: int, uri: str) -> Any:
    return TimestampedValue(beam.Row(uri=uri, image=PICTURES[0], label=""), seconds)


def unbounded() -> Any:
    pipeline = beam.Pipeline(options=PipelineOptions(["--streaming"]))
    return pipeline | test_stream.TestStream() | "Typed" >> beam.Map(same).with_output_types(TABLE)


class TestUsage:
    @pytest.mark.parametrize("transform", [DeduplicateRows, FingerprintRows])
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"uri_field": "", "image_field": ""}, "uri_field or image_field must name a field"),
            ({"carry": "label"}, "carry must be a list of names of fields, got 'label'"),
            ({"carry": [1]}, r"carry must be a list of names of fields, got \[1\]"),
            ({"prefix": "a-"}, "prefix must be letters, digits and \"_\".*; got 'a-'"),
            ({"error_handling": {}}, 'error_handling must be {"output": NAME}'),
            ({"error_handling": {"output": "good"}}, 'another NAME than "good"'),
            ({"error_handling": {"output": "a", "threshold": 1}}, "error_handling must be"),
        ],
    )
    def test_wrong_arguments_are_refused(
        self, transform: Any, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            transform(**arguments)

    @pytest.mark.parametrize(
        ("row", "arguments", "message"),
        [
            (beam.Row(a=1), {}, "DeduplicateRows need a field uri .* or image .*; they have a"),
            (beam.Row(uri=1), {}, "the field uri of the rows of DeduplicateRows must be text; it is .*int64"),
            (beam.Row(uri="a", image="b"), {}, "the field image .* must be bytes; it is .*str"),
            (beam.Row(uri="a"), {"carry": ["b"]}, "can't carry b: the rows have uri"),
            (beam.Row(uri="a", width=1), {}, 'have a field width, .* set prefix, for example "dedup_"'),
            ("a", {}, "the input of DeduplicateRows, of the type .*str.*, has no schema"),
        ],
    )
    def test_rows_that_do_not_fit_are_refused(self, row: Any, arguments: Any, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            beam.Pipeline() | beam.Create([row]) | DeduplicateRows(**arguments)

    def test_fields_are_those_of_records_in_their_order(self) -> None:
        names = [name for name in RECORD_FIELDS if name in VERDICT_FIELDS]
        assert tuple(names) == VERDICT_FIELDS
        assert {*FINGERPRINT_FIELDS} < {*VERDICT_FIELDS}

    def test_type_of_the_rows_out_is_a_schema(self) -> None:
        verdicts = beam.Pipeline() | beam.Create([beam.Row(uri="a", label=1)]) | DeduplicateRows()
        assert isinstance(verdicts.element_type, RowTypeConstraint)
        assert [name for name, _ in verdicts.element_type._fields] == [*VERDICT_FIELDS, "label"]
        element_type: Any = verdicts.element_type
        types = {field.name: field.type for field in schema_from_element_type(element_type).fields}
        assert not [name for name, kind in types.items() if kind.HasField("logical_type")]
        assert types["distance"].atomic_type == schema_pb2.INT64
        assert [name for name, kind in types.items() if not kind.nullable] == [
            "uri",
            "status",
            "flags",
            "label",
        ]
