"""Builds pipelines that together use all our composites, on the same inputs, for any runner."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_dedup.core.algorithms import SIMHASH, Recipe
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import Fingerprint
from beam_dedup.core.thresholds import Thresholds
from tests.core.archives.made_archives import tar, zipped
from tests.stream_files import generation_of
from tests.transforms import image_blocks
from tests.transforms.batches import random_batch
from tests.transforms.files import encoded, write
from transforms import (
    BatchFingerprints,
    BatchReferences,
    CheckConservation,
    CountImages,
    DeduplicateImages,
    DeduplicateRows,
    FingerprintImages,
    FingerprintRows,
    ListImages,
    MarkExactDuplicates,
    MarkNearDuplicates,
    PlaceCopies,
    ReadImages,
    ReadMetadata,
    UnbatchVerdicts,
    WriteGroups,
    WritePlacements,
    WriteRecords,
    WriteUnplaced,
)
from transforms.count import write_json
from transforms.place import placements
from transforms.read import list_files
from transforms.read_settings import ReadSettings
from transforms.stream.judge import AdmitArrivals, JudgeArrivals
from transforms.stream.plan import choose_stream_plan
from transforms.stream.steps import StreamSettings

WINDOW_SECONDS = 60
Build = Callable[[beam.Pipeline], dict[str, Any]]


_MEMBERS = {f"m/{number}.png": encoded(10 + number % 4) for number in range(6)}
ARCHIVES = {"a!.zip": _MEMBERS, "b.tar": _MEMBERS | {"../c.png": encoded(20)}}


class Inputs(NamedTuple):
    """Paths of the inputs."""

    pictures: str  # directory
    known: str  # directory
    metadata: str  # file of JSON lines


def make_inputs(folder: Path) -> Inputs:
    """Writes the inputs.

    40 files of 12 pictures, some of them equal byte by byte; two archives; two files that are no pictures; two known images;
    metadata of all the files, of 9 files that do not exist, and two invalid lines.
    """
    files = {
        f"{number % 5}/{number}.png": encoded(1 + number % 12, compress_level=number // 12 % 4)
        for number in range(40)
    }
    for name, data in files.items():
        write(folder / "in" / name, data)
    write(folder / "in/a!.zip", zipped(ARCHIVES["a!.zip"]))
    write(folder / "in/b.tar", tar(ARCHIVES["b.tar"]))
    write(folder / "in/notes.jpg", b"no picture")
    write(folder / "in/empty.jpg", b"")
    for seed in (3, 4):
        write(folder / f"known/{seed}.png", encoded(seed, "BMP"))
    rows = [f'{{"__path__": "{folder}/in/{name}", "title": "some words of {name[0]}"}}' for name in files]
    rows += [
        f'{{"__path__": "gone/{n}.jpg", "title": "words that describe picture {n % 3}"}}' for n in range(9)
    ]
    write(folder / "rows.jsonl", "\n".join([*rows, "{", '{"a": 1}']).encode())
    return Inputs(str(folder / "in"), str(folder / "known"), str(folder / "rows.jsonl"))


def near(inputs: Inputs, outputs: Path) -> Build:
    """Does all that a near run does, with known images, and with a file at the path of a copy."""
    write(outputs / "out/0/0.png", b"another")

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        pictures = ReadImages(inputs.pictures, batch=image_blocks.IMAGES_PER_BLOCK)
        read, exclusions = pipeline | "Read" >> ListImages(pictures)
        known = pipeline | "ReadKnown" >> ReadImages(inputs.known, known=True)
        planning = PlanSettings(Plan(8, 1, 1, 3))
        done = read | DeduplicateImages(
            settings=ReadSettings(recipe=Recipe()), planning=planning, digest_shards=3, known=known
        )
        placed = done.verdicts | "Place" >> PlaceCopies(str(outputs / "out"), duplicates=True)
        shown = done.verdicts | beam.FlatMap(placements, str(outputs / "out"), True, False)
        counts = done.verdicts | "Count" >> CountImages(done.plan, done.read_tally, exclusions=exclusions)
        counts | "WriteCounts" >> beam.Map(write_json, str(outputs / "counts.json"))
        done.verdicts | "Records" >> WriteRecords(str(outputs / "records.jsonl"))
        done.verdicts | "Avro" >> WriteRecords(str(outputs / "records.avro"))
        done.verdicts | "Groups" >> WriteGroups(str(outputs / "groups.json"))
        placed.unplaced | WriteUnplaced(str(outputs / "unplaced"))
        shown | WritePlacements(str(outputs / "placements"))
        return {
            "images": read | CheckConservation(done.verdicts, done.read_tally),
            "counts": counts,
            "plan": done.plan,
            "exclusions": exclusions,
        }

    return build


def exact(inputs: Inputs, outputs: Path) -> Build:
    """Finds exact duplicates, and writes records into several files."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        read = pipeline | ReadImages((inputs.pictures, inputs.known))
        done = read | DeduplicateImages(digest_shards=2)
        done.verdicts | WriteRecords(f"{outputs}/records/")
        placed = done.verdicts | PlaceCopies(str(outputs / "out"), portable=True)
        return {
            "verdicts": done.verdicts | UnbatchVerdicts(),
            "copies": placed.copies | beam.Map(digest_of),
        }

    return build


def digest_of(copy: Any) -> bytes:
    return bytes(copy.digest)


def metadata(inputs: Inputs, outputs: Path) -> Build:
    """Compares images by their metadata."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        rows = pipeline | ReadMetadata(inputs.metadata, batch=image_blocks.IMAGES_PER_BLOCK)
        done = rows | DeduplicateImages(
            settings=ReadSettings(recipe=Recipe(SIMHASH, "none")), thresholds=Thresholds(3, 256)
        )
        done.verdicts | WriteRecords(str(outputs / "records.jsonl"))
        return {"images": rows | CheckConservation(done.verdicts, done.read_tally)}

    return build


def single(inputs: Inputs, outputs: Path) -> Build:
    """Batches references that arrive one by one, and returns their fingerprints."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        lists = pipeline | ReadImages(inputs.pictures)
        one_by_one = lists | beam.FlatMap(list)
        settings = ReadSettings(recipe=Recipe(views="crops"))
        read = one_by_one | BatchReferences(5) | FingerprintImages(settings=settings)
        return {"fingerprints": read.fingerprints | beam.FlatMap(image_blocks.fingerprints_in)}

    return build


def rows(inputs: Inputs, outputs: Path) -> Build:
    """Judges and fingerprints the files as rows, by URI and by bytes, some of them equal."""
    paths = [f"{inputs.pictures}/{name}" for name in list_files(inputs.pictures)]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        given = pipeline | beam.Create([*paths, *paths[:5], "gone.jpg"])
        by_uri = given | "Uris" >> beam.Map(uri_row).with_output_types(_URIS)
        by_bytes = given | "Bytes" >> beam.Map(bytes_row).with_output_types(_IMAGES)
        settings = ReadSettings(recipe=Recipe())
        done = by_uri | DeduplicateRows(
            settings=settings,
            planning=PlanSettings(Plan(8, 1, 1, 3)),
            digest_shards=3,
            error_handling={"output": "bad"},
        )
        read = by_bytes | FingerprintRows(settings=settings, carry=["label"])
        collections = {"good": done["good"], "bad": done["bad"], "read": read}
        return {name: rows | f"Text{name}" >> beam.Map(row_text) for name, rows in collections.items()}

    return build


_URIS = RowTypeConstraint.from_fields([("uri", str), ("label", str)])
_IMAGES = RowTypeConstraint.from_fields([("uri", str), ("image", bytes), ("label", str)])


def uri_row(path: str) -> beam.Row:
    return beam.Row(uri=path, label=path[-5:])


def bytes_row(path: str) -> beam.Row:
    data = Path(path).read_bytes() if path != "gone.jpg" else b""
    return beam.Row(uri=path, image=data, label=path[-5:])


def row_text(row: Any) -> str:
    """Returns a row as text: each runner makes classes of its own for rows."""
    fields = row._asdict() if hasattr(row, "_asdict") else row.__dict__
    nested = {name: row_text(value) if name == "element" else value for name, value in fields.items()}
    return json.dumps(nested, sort_keys=True)


def marked_near(inputs: Inputs, outputs: Path) -> Build:
    """Judges random codes in two windows, distributed over several shards."""
    batches = [random_batch(f"portable {number}", 6, 48, 40) for number in range(2)]
    mark = MarkNearDuplicates(Thresholds(6, 48), PlanSettings(Plan(6, 2, 1, 3)), digest_shards=5)
    return _marked([made.fingerprints for made in batches], lambda read: (read | mark).verdicts)


def marked_exact(inputs: Inputs, outputs: Path) -> Build:
    """Marks exact duplicates among random fingerprints in two windows."""
    batches = [random_batch(f"portable {number}", 6, 48, 40) for number in range(2)]
    return _marked(
        [made.fingerprints for made in batches], lambda read: read | MarkExactDuplicates(digest_shards=5)
    )


def _marked(batches: list[list[Fingerprint]], mark: Callable[[Any], Any]) -> Build:
    timed = [
        (number * WINDOW_SECONDS + WINDOW_SECONDS // 2, image)
        for number, images in enumerate(batches)
        for image in images
    ]
    random.Random(1).shuffle(timed)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        stamped = (
            pipeline | beam.Create(timed) | beam.Map(stamp) | beam.WindowInto(FixedWindows(WINDOW_SECONDS))
        )
        return {"verdicts": mark(stamped | BatchFingerprints()) | UnbatchVerdicts()}

    return build


def stamp(pair: tuple[float, Any]) -> Any:
    """Returns the second item with the first as its timestamp."""
    return TimestampedValue(pair[1], pair[0])


def stream(inputs: Inputs, outputs: Path) -> Build:
    """Runs the streaming protocol on existing files, each of which is delivered one to three times.

    Which images are kept depends on the order in which they arrive.
    """
    rng = random.Random(2)
    now = time.time()
    paths = [f"{inputs.pictures}/{name}" for name in list_files(inputs.pictures)]
    arrivals = [Arrival(path, generation_of(path), int(now * 1000)) for path in paths]
    delivered = [arrival.packed() for arrival in arrivals for _ in range(rng.randint(1, 3))]
    rng.shuffle(delivered)
    recipe = Recipe()
    plan = choose_stream_plan(recipe, Thresholds(), expected_images=1000, digest_shards=3)
    streaming = StreamSettings(plan, 7 * 86400 * 10**6, 0, cache_bytes=1 << 20)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        arrived = pipeline | beam.Create([(now, arrival) for arrival in delivered]) | beam.Map(stamp)
        admitted = arrived | AdmitArrivals(streaming)
        judged = admitted | JudgeArrivals(streaming, settings=ReadSettings(recipe=recipe))
        judged | WriteRecords(str(outputs / "records.jsonl"))
        return {"verdicts": judged | UnbatchVerdicts()}

    return build
