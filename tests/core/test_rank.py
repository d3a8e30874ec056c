"""Ranks are a total order: class, values of the policy, URI, generation."""

import dataclasses
import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_dedup.core.arrivals import event_metadata
from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.model import Fingerprint, Flag, ImageRef
from beam_dedup.core.preference import RAW_FORMATS, KeepPolicy, Preference, parse_rules
from beam_dedup.core.rank import are_known, kept_by, ranks_of, uri_of, uris_of
from beam_dedup.core.tables import fingerprints_table

MOST = (1 << 31) - 1
GENERATIONS = ["", "1", "2", "2-0"]
images = st.builds(
    Fingerprint,
    ref=st.builds(
        ImageRef,
        uri=st.text("ab/\udcff\u00e9", max_size=4),
        name=st.just("x"),
        known=st.booleans(),
        metadata=st.sampled_from([one and f'{{"generation": "{one}"}}' for one in GENERATIONS]),
    ),
    digest=st.just(bytes(32)),
    size_bytes=st.integers(0, MOST),
    modified_ms=st.integers(-5, 5),
    format=st.sampled_from(["PNG", "JPEG", "CR2", "HEIF", "GIF"]),
    width=st.integers(0, 3),
    height=st.integers(0, 3),
    algorithm=st.just(""),
    codes=st.just(()),
    flags=st.sampled_from([(), (Flag.FLAT,), (Flag.LINK,), (Flag.DESCRIBED,), (Flag.TRUNCATED, Flag.LINK)]),
    taken=st.sampled_from([0, 20190102030405, 20200102030405]),
    metadata_kinds=st.integers(0, 5),
)


RULES = (
    "path:a/", "path:*b*", "not:a", "not:é", "format:png,jpeg", "format:raw,tiff", "format:heic", "pixels", "bytes",
    "oldest", "newest", "taken", "metadata", "largest",
)  # fmt: skip
preferences = st.lists(st.sampled_from(RULES), max_size=5, unique=True).map(
    lambda texts: Preference(parse_rules(texts), directory="/in")
)


def ranks(images: list[Fingerprint], keep: KeepPolicy | Preference) -> list[bytes]:
    found: list[bytes] = ranks_of(fingerprints_table(images), keep).to_pylist()
    return found


def expected_order(image: Fingerprint, keep: KeepPolicy | Preference) -> tuple[object, ...]:
    """Returns a sort key that follows the definition of the policies and rules."""
    uri = image.ref.uri.encode("utf-8", "surrogateescape")
    values = [value for _, value in expected_values(image, keep)]
    return (expected_class(image), *values, uri, event_metadata(image.ref.metadata)[0])


def expected_values(image: Fingerprint, keep: KeepPolicy | Preference) -> list[tuple[str, object]]:
    """Returns the name and the value of each rule, and of the order of names."""
    pixels, size = ("pixels", -image.width * image.height), ("bytes", -image.size_bytes)
    is_link = ("links", Flag.LINK in image.flags)
    numbers: dict[str, tuple[str, object]] = {
        "pixels": pixels,
        "bytes": size,
        "oldest": ("oldest", (image.modified_ms == 0, image.modified_ms)),
        "newest": ("newest", -image.modified_ms),
        "taken": ("taken", (image.taken == 0, image.taken)),
        "metadata": ("metadata", -image.metadata_kinds),
    }
    if isinstance(keep, KeepPolicy):
        by_policy: dict[KeepPolicy, list[tuple[str, object]]] = {
            KeepPolicy.FIRST: [is_link],
            KeepPolicy.LARGEST: [pixels, size, is_link],
            KeepPolicy.OLDEST: [numbers["oldest"], is_link],
            KeepPolicy.NEWEST: [numbers["newest"], is_link],
        }
        return by_policy[keep]
    found: list[tuple[str, object]] = []
    for text in (rule.text for rule in keep.rules):
        kind, _, value = text.partition(":")
        if kind in ("path", "not"):
            if is_link not in found:
                found.append(is_link)
            found.append((text, (kind == "path") != matches_glob(value, image.ref)))
        elif kind == "format":
            names = {"raw": RAW_FORMATS, "heic": ["HEIF"]}
            orders = [names.get(name, [name.upper()]) for name in value.split(",")]
            position = next((n for n, some in enumerate(orders) if image.format in some), len(orders))
            found.append((text, position))
        else:
            found.append(numbers[kind])
    return found if is_link in found else [*found, is_link]


def matches_glob(glob: str, ref: ImageRef) -> bool:
    """Returns whether one of the globs in `RULES` matches."""
    paths = [f"/in/{ref.uri}" if not ref.uri.startswith("/") else ref.uri, f"/{ref.name}"]
    if glob == "a/":
        return any("a" in path.split("/")[:-1] for path in paths)
    parts = [part for path in paths for part in path.split("/") if part]
    return any("b" in part for part in parts) if glob == "*b*" else glob in parts


def expected_kept_by(image: Fingerprint, witness: Fingerprint, keep: KeepPolicy | Preference) -> str:
    """Returns why a witness is preferred to an image, by the definition."""
    if expected_order(image, keep) < expected_order(witness, keep):
        return "nearest"
    if expected_class(image) != expected_class(witness):
        words = {0: "known", 1: "protected"}
        return words.get(expected_class(witness)) or {3: "truncated", 4: "described"}[expected_class(image)]
    both = zip(expected_values(image, keep), expected_values(witness, keep), strict=True)
    return next((name for (name, value), (_, other) in both if value != other), "first")


def expected_class(image: Fingerprint) -> int:
    """Returns where the class of an image sorts."""
    if image.ref.known:
        return 0
    if Flag.PROTECTED in image.flags:
        return 1
    return 4 if Flag.DESCRIBED in image.flags else 3 if Flag.TRUNCATED in image.flags else 2


@given(st.lists(images, max_size=6))
def test_order_follows_the_policy(found: list[Fingerprint]) -> None:
    for keep in KeepPolicy:
        pairs = itertools.combinations(zip(ranks(found, keep), found, strict=True), 2)
        for (rank, one), (other_rank, other) in pairs:
            assert (rank < other_rank) == (expected_order(one, keep) < expected_order(other, keep))


@given(st.lists(images, min_size=2, max_size=6), preferences)
def test_order_follows_the_rules_and_kept_by_names_what_decides(
    found: list[Fingerprint], preference: Preference
) -> None:
    made = ranks(found, preference)
    numbers = range(len(found))
    for one, other in itertools.combinations(numbers, 2):
        orders = [expected_order(found[number], preference) for number in (one, other)]
        assert (made[one] < made[other]) == (orders[0] < orders[1])
    pairs = [pair for pair in itertools.permutations(numbers, 2) if made[pair[0]] != made[pair[1]]]
    duplicates = pa.array([*(made[other] for _, other in pairs), made[0]], pa.large_binary())
    kept = pa.array([*(made[one] for one, _ in pairs), None], pa.large_binary())
    assert kept_by(duplicates, kept, preference).to_pylist() == [
        *(expected_kept_by(found[other], found[one], preference).encode() for one, other in pairs),
        None,
    ]


@pytest.mark.parametrize("keep", KeepPolicy)
def test_policies_are_lists_of_rules(keep: KeepPolicy) -> None:
    """The words of before mean what they did, and give the same ranks as rules."""
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 7, "PNG", 2, 3, "", ())
    assert ranks([image], keep) == ranks([image], Preference(parse_rules([keep.value])))


@pytest.mark.parametrize("keep", KeepPolicy)
@given(found=st.lists(images, max_size=4))
def test_rank_contains_the_uri_and_whether_the_image_is_known(
    keep: KeepPolicy, found: list[Fingerprint]
) -> None:
    table = ranks_of(fingerprints_table(found), keep)
    assert uris_of(table).to_pylist() == [to_bytes(image.ref.uri) for image in found]
    assert are_known(table).to_pylist() == [image.ref.known for image in found]
    assert [uri_of(rank) for rank in table.to_pylist()] == [image.ref.uri for image in found]


def test_images_of_one_uri_differ_in_rank_only_if_one_is_known() -> None:
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 1, "PNG", 1, 1, "", ())
    known = dataclasses.replace(image, ref=ImageRef("a", "a", known=True))
    first, second, third = ranks([known, image, image], KeepPolicy.FIRST)
    assert first < second == third


@given(
    st.lists(
        st.tuples(st.text("a\0b", max_size=3), st.sampled_from(GENERATIONS)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_generations_of_one_uri_have_different_ranks(names: list[tuple[str, str]]) -> None:
    """URIs with a zero byte, which a stranger's list of images may contain, are not confused with a URI and
    a generation.
    """
    found = [
        Fingerprint(
            ImageRef(uri, "x", f'{{"generation": "{generation}"}}' if generation else ""),
            bytes(32), 1, 0, "PNG", 1, 1, "", (), (),
        )
        for uri, generation in names
    ]  # fmt: skip
    one, other = ranks(found, KeepPolicy.FIRST)
    assert one != other
    assert [uri_of(one), uri_of(other)] == [uri for uri, _ in names]
