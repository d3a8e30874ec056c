"""Tests `DeduplicateImages`, from references to verdicts, on the sample pictures."""

import collections
import re
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.model import ImageRef, Reason, Status, Verdict
from beam_dedup.core.thresholds import Thresholds
from tests.transforms import image_blocks
from tests.transforms.batches import in_order
from tests.transforms.files import encoded, ref, write
from tests.transforms.pipelines import REPEATED, THREADS, Ran, run
from transforms import BatchReferences, DeduplicateImages, UnbatchVerdicts, metrics
from transforms.read import list_files
from transforms.read_settings import ReadSettings


def listed(folder: Path) -> list[ImageRef]:
    return [ImageRef(str(folder / name), name) for name in list_files(str(folder))]


def deduplicate(images: list[ImageRef], transform: DeduplicateImages, *flags: str) -> Ran:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        done = image_blocks.references(pipeline, images) | transform
        verdicts = {"verdicts": done.verdicts | UnbatchVerdicts()}
        return verdicts | ({"plan": done.plan} if done.plan else {})

    return run(build, *flags)


def shown(name: str) -> str:
    """Returns the same key for every sample that shows the same picture, however it was saved."""
    number = re.search(r"photo-\d\d", name)
    return number[0] if number and not name.startswith("camera/") else re.sub(r"-\d+\.png$", "", name)


def truth(folder: Path, near: bool) -> dict[str, tuple[Status, Reason | None, str | None]]:
    """Returns (status, reason, URI of the kept image) of each sample; the first of a group by URI is kept."""
    rejected = {"odd/empty.jpg": Reason.EMPTY, "odd/notes.jpg": Reason.NOT_AN_IMAGE}
    groups: dict[object, list[Path]] = collections.defaultdict(list)
    judged: dict[str, tuple[Status, Reason | None, str | None]] = {}
    for name in sorted(list_files(str(folder))):
        if name in rejected:
            judged[name] = Status.REJECTED, rejected[name], None
            continue
        path = folder / name
        group = groups[shown(name) if near else path.read_bytes()]
        group.append(path)
        if path == group[0]:
            judged[name] = Status.KEPT, None, None
        else:
            same_bytes = path.read_bytes() == group[0].read_bytes()
            judged[name] = Status.DUPLICATE, Reason.EXACT if same_bytes else Reason.NEAR, str(group[0])
    return judged


def outcomes(verdicts: list[Verdict]) -> dict[str, tuple[Status, Reason | None, str | None]]:
    assert len({verdict.ref for verdict in verdicts}) == len(verdicts)
    return {v.ref.name: (v.status, v.reason, v.witness.uri if v.witness else None) for v in verdicts}


ROUNDS = PlanSettings(Plan(8, 1, 1, 3))
NEAR_SETTINGS = ReadSettings(recipe=Recipe())
NEAR = DeduplicateImages(settings=NEAR_SETTINGS)


@pytest.fixture(scope="module")
def answer(samples: Path) -> Ran:
    """Returns the results of near mode on the samples."""
    return deduplicate(listed(samples), NEAR)


def test_exact_mode_judges_samples_by_their_bytes(samples: Path) -> None:
    ran = deduplicate(listed(samples), DeduplicateImages())
    assert outcomes(ran.values["verdicts"]) == truth(samples, near=False)
    assert {verdict.reason for verdict in ran.values["verdicts"]} >= {None, Reason.EXACT}
    assert {(v.fingerprint, v.width, v.flags) for v in ran.values["verdicts"]} == {(b"", 0, ())}, (
        "exact mode decodes nothing"
    )
    check_counters(ran)


def test_near_mode_judges_samples_by_their_pictures(samples: Path, answer: Ran) -> None:
    assert outcomes(answer.values["verdicts"]) == truth(samples, near=True)
    assert {verdict.reason for verdict in answer.values["verdicts"]} >= {None, Reason.EXACT, Reason.NEAR}
    check_counters(answer)


def check_counters(ran: Ran) -> None:
    """Asserts that the counters agree with the verdicts, and that there are no others."""
    counters = dict(ran.counters)
    verdicts = ran.values["verdicts"]
    by_reason = Counter(verdict.reason for verdict in verdicts)
    assert counters.pop(metrics.INITIAL) == len(verdicts)
    assert counters.pop(metrics.REFERENCES_READ) == counters.pop(metrics.IMAGES_FOUND) == len(verdicts)
    assert counters.pop(metrics.FINAL) == by_reason.pop(None)
    judged = [verdict for verdict in verdicts if verdict.status != Status.REJECTED]
    assert counters.pop(metrics.BYTES_READ) == sum(verdict.size_bytes for verdict in judged)
    assert counters.pop(metrics.EXACT_DUPLICATES) == by_reason.pop(Reason.EXACT)
    assert counters.pop(metrics.NEAR_DUPLICATES, 0) == by_reason.pop(Reason.NEAR, 0)
    assert counters.pop(metrics.REJECTED) == by_reason.total()
    assert counters.pop(metrics.KNOWN_REJECTED, 0) == 0
    assert counters == {metrics.rejected_for(reason): count for reason, count in by_reason.items() if reason}


@pytest.mark.parametrize(
    ("transform", "flags"),
    [
        pytest.param(NEAR, REPEATED, id="bundles repeated"),
        pytest.param(NEAR, THREADS, id="threads"),
        pytest.param(
            DeduplicateImages(settings=NEAR_SETTINGS, planning=ROUNDS, digest_shards=5), (), id="rounds"
        ),
        pytest.param(
            DeduplicateImages(settings=NEAR_SETTINGS, planning=PlanSettings(spread=False)),
            (),
            id="one worker",
        ),
        pytest.param(
            DeduplicateImages(settings=ReadSettings(recipe=Recipe(), decoder_processes=3)),
            (),
            id="decoder processes",
        ),
    ],
)
def test_verdicts_do_not_depend_on_how_the_work_is_divided(
    samples: Path, answer: Ran, transform: DeduplicateImages, flags: tuple[str, ...]
) -> None:
    """Every field of every verdict is the same, also with the files in another order."""
    ran = deduplicate(listed(samples)[::-1], transform, *flags)
    assert in_order(ran.values["verdicts"]) == in_order(answer.values["verdicts"])
    [plan] = ran.values["plan"]
    assert plan.plan == transform.planning.given or plan == answer.values["plan"][0]


def test_thresholds_are_applied(tmp_path: Path) -> None:
    """The same picture in two files with different bytes, and one that differs a little."""
    files = {
        "a.png": encoded(1),
        "b.png": encoded(1, compress_level=1),
        "c.jpg": encoded(1, "JPEG", quality=10),
    }
    images = [ref(write(tmp_path / name, data)) for name, data in files.items()]

    ran = deduplicate(images, DeduplicateImages(settings=NEAR_SETTINGS, thresholds=Thresholds(k=8, verify=0)))
    assert [verdict.reason for verdict in in_order(ran.values["verdicts"])] == [None, Reason.NEAR, None]


def test_only_near_mode_has_a_plan(samples: Path, answer: Ran) -> None:
    images = image_blocks.references(beam.Pipeline(options=PipelineOptions([])), listed(samples))
    assert (images | DeduplicateImages()).plan is None
    [plan] = answer.values["plan"]
    assert 17 <= plan.codes <= 2 * len(answer.values["verdicts"]), (
        "the base code, and one of the part within a border"
    )
    assert plan.plan.prefix == 0


@pytest.mark.parametrize("recipe", [None, Recipe()], ids=["exact", "near"])
def test_each_window_is_judged_by_itself(tmp_path: Path, recipe: Recipe | None) -> None:
    names = ["a", "b", "c"]
    for name in names:
        write(tmp_path / name, encoded(1))
    timed = [(window, ref(tmp_path / name)) for window in (0, 60) for name in names[window // 60 :]]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        images = pipeline | beam.Create(timed) | beam.MapTuple(stamp).with_output_types(ImageRef)
        batched = images | beam.WindowInto(FixedWindows(60)) | BatchReferences()
        return {
            "verdicts": (batched | DeduplicateImages(settings=ReadSettings(recipe=recipe))).verdicts
            | UnbatchVerdicts()
        }

    ran = run(build)
    pairs = zip(ran.windows["verdicts"], ran.values["verdicts"], strict=True)
    assert sorted(
        (window, v.ref.name, v.status.value, v.witness and Path(v.witness.uri).name) for window, v in pairs
    ) == [
        (0, "a", "kept", None),
        (0, "b", "duplicate", "a"),
        (0, "c", "duplicate", "a"),
        (60, "b", "kept", None),
        (60, "c", "duplicate", "b"),
    ]


def stamp(seconds: int, image: ImageRef) -> Any:
    return TimestampedValue(image, seconds)


@pytest.mark.parametrize("recipe", [None, Recipe()], ids=["exact", "near"])
@pytest.mark.parametrize("processes", [1, 2])
def test_known_images_get_no_verdict(tmp_path: Path, recipe: Recipe | None, processes: int) -> None:
    """They are not counted either, except those that are no images."""
    new = {name: encoded(seed) for name, seed in (("a", 1), ("b", 2), ("c", 1))}
    images = [ref(write(tmp_path / name, data)) for name, data in new.items()]
    known = [
        ImageRef(str(write(tmp_path / f"known/{name}", data)), name, known=True)
        for name, data in (("z", encoded(1)), ("a", encoded(3)), ("text", b"text"), ("empty", b""))
    ]
    known.append(ImageRef(str(tmp_path / "known/gone"), "gone", known=True))

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        mine = pipeline | "Known" >> beam.Create([known])
        done = image_blocks.references(pipeline, images) | DeduplicateImages(
            settings=ReadSettings(recipe=recipe, decoder_processes=processes), known=mine
        )
        return {"verdicts": done.verdicts | UnbatchVerdicts()}

    ran = run(build)
    of_z = (Status.DUPLICATE, Reason.EXACT, str(tmp_path / "known/z"))
    assert outcomes(ran.values["verdicts"]) == {"a": of_z, "b": (Status.KEPT, None, None), "c": of_z}
    assert ran.counters.pop(metrics.BYTES_READ)
    assert ran.counters == {
        metrics.REFERENCES_READ: 3 + len(known),
        metrics.IMAGES_FOUND: 3,
        metrics.INITIAL: 3,
        metrics.FINAL: 1,
        metrics.EXACT_DUPLICATES: 2,
        metrics.KNOWN_REJECTED: 3,
    }


def test_no_images_give_no_verdicts() -> None:
    ran = deduplicate([], NEAR)
    assert ran.values == {"verdicts": [], "plan": []}
    assert ran.counters == {}


def test_all_images_may_be_rejected(tmp_path: Path) -> None:
    ran = deduplicate([ref(tmp_path / "gone"), ref(write(tmp_path / "empty", b""))], NEAR)
    assert [verdict.reason for verdict in in_order(ran.values["verdicts"])] == [
        Reason.EMPTY,
        Reason.NOT_FOUND,
    ]
    assert ran.counters[metrics.REJECTED] == ran.counters[metrics.INITIAL] == 2


@pytest.mark.parametrize("recipe", [None, Recipe()], ids=["exact", "near"])
def test_types_are_declared(recipe: Recipe | None) -> None:
    images = image_blocks.references(beam.Pipeline(options=PipelineOptions([])), [ImageRef("a", "a")])
    done = images | DeduplicateImages(settings=ReadSettings(recipe=recipe))
    assert done.verdicts.element_type is bytes
    assert done.read_tally.element_type is ReadTally
    if done.plan:
        assert done.plan.element_type is Estimate


def test_a_pipeline_may_contain_it_twice() -> None:
    """Under different labels, which make the names of the steps different."""
    images = image_blocks.references(beam.Pipeline(options=PipelineOptions([])), [ImageRef("a", "a")])
    _ = images | "Exact" >> DeduplicateImages()
    _ = images | "Near" >> NEAR
    with pytest.raises(RuntimeError, match="already exists"):
        _ = images | "Near" >> NEAR
