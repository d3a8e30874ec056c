"""Images are identified by their metadata: recorded digests, canonical metadata, simhash."""

import base64
import hashlib
import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_dedup.core.metadata.simhash import (
    canonical,
    canonical_key,
    identity,
    recorded_digest,
    simhash,
)
from beam_dedup.core.thresholds import SIMHASH_K

PLAIN: dict[str, Any] = {
    "Content-Type": "image/jpeg",
    "X-Parsed-By": ["org.apache.tika.parser.DefaultParser", "org.apache.tika.parser.image.JpegParser"],
    "Compression Type": "Baseline",
    "Data Precision": "8 bits",
    "Number of Components": "3",
    "Component 1": "Y component: Quantization table 0, Sampling factors 2 horiz/2 vert",
    "Component 2": "Cb component: Quantization table 1, Sampling factors 1 horiz/1 vert",
    "Image Height": "3000 pixels",
    "Image Width": "4000 pixels",
    "tiff:ImageWidth": "4000",
    "tiff:ImageLength": "3000",
    "tiff:BitsPerSample": "8",
    "Resolution Units": "inch",
    "X Resolution": "72 dots",
    "Y Resolution": "72 dots",
}
FILE_SYSTEM: dict[str, Any] = {
    "__path__": "/a/b.jpg",
    "resourceName": "b.jpg",
    "File Name": "apache-tika-1.tmp",
    "File Modified Date": "Sat",
}


def record(chance: random.Random, camera: int = 0) -> dict[str, Any]:
    """Returns metadata like that of a photograph in Tika; photographs by one camera agree in most fields."""
    taken = f"2024-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}"
    return PLAIN | {
        "__path__": f"/{chance.random()}.jpg",
        "File Name": f"apache-tika-{chance.random()}.tmp",
        "File Size": f"{chance.randrange(10**6, 9 * 10**6)} bytes",
        "tiff:Make": f"Maker {camera}",
        "tiff:Model": f"Model {camera}",
        "tiff:Software": f"Firmware {camera}",
        "exif:DateTimeOriginal": taken,
        "dcterms:created": taken,
        "Exif SubIFD:Date/Time Original": taken,
        "Exif IFD0:Date/Time": taken,
        "exif:ExposureTime": chance.choice(["1/60", "1/125", "1/250", "1/500"]),
        "exif:FNumber": chance.choice(["2.8", "4", "5.6"]),
        "exif:IsoSpeedRatings": chance.choice(["100", "200", "400"]),
        "exif:FocalLength": chance.choice(["24", "35", "50"]),
        "Color Space": "sRGB",
        "White Balance Mode": "Auto",
    }


def distance(one: dict[str, Any], other: dict[str, Any]) -> int:
    return (int.from_bytes(simhash(one)[0], "big") ^ int.from_bytes(simhash(other)[0], "big")).bit_count()


class TestCanonical:
    def test_differences_between_copies_do_not_count(self) -> None:
        same: list[dict[str, Any]] = [
            PLAIN,
            PLAIN | FILE_SYSTEM,
            PLAIN
            | {
                "X-TIKA:parse_time_millis": "12",
                "fs:modified": "2024",
                "FileModifyDate": "x",
                "X-Parsed-By": "y",
            },
            {
                **PLAIN,
                "tiff:ImageWidth": 4000,
                "Number of Components": 3.0,
                "Nothing": None,
                "Empty": " ",
                "None": [],
            },
            {name.upper(): value for name, value in PLAIN.items()},
            dict(reversed(PLAIN.items())),
            {**PLAIN, "Data Precision": [" 8  bits\n"]},
        ]
        assert len({canonical_key(one) for one in same}) == 1
        assert len({simhash(one)[0] for one in same}) == 1

    def test_every_other_field_counts(self) -> None:
        others = [{**PLAIN, key: "other"} for key in PLAIN if key != "X-Parsed-By"]
        assert (
            len({canonical_key(one) for one in [PLAIN, *others, PLAIN | {"File Size": "1"}]})
            == len(others) + 2
        )

    def test_order_of_several_values_does_not_count(self) -> None:
        assert (
            canonical({"dc:subject": ["b", "a", "a"]})
            == canonical({"dc:subject": ["a", "b"]})
            != canonical({"dc:subject": "a b"})
        )

    def test_nested_objects_are_flattened(self) -> None:
        assert canonical({"a": {"B": 1, "c": [{"d": True}, 2.5]}}) == {
            "a/b": ("1",),
            "a/c": ("2.5",),
            "a/c/d": ("true",),
        }

    def test_unicode_form_does_not_count(self) -> None:
        assert canonical({"title": "e\u0301"}) == canonical({"title": "é"})

    @pytest.mark.parametrize(
        "metadata",
        [{}, FILE_SYSTEM, {"Content-Type": "image/png"}, {"Content-Type": "image/png", **FILE_SYSTEM}],
    )
    def test_content_type_alone_does_not_identify(self, metadata: dict[str, Any]) -> None:
        assert canonical_key(metadata) is None
        assert identity(metadata, "/a") is None
        assert not simhash(metadata)[1]

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_any_json_has_canonical_form_key_and_simhash(self, value: Any) -> None:
        metadata = {"key": value, "other": 1}
        assert canonical(metadata) == canonical(dict(canonical(metadata)))
        assert len(canonical_key(metadata) or b"") == 32
        assert len(simhash(metadata)[0]) == 8

    def test_golden_keys_are_unchanged(self) -> None:
        """They are compared with those of earlier runs, so a change of these needs a new version."""
        assert simhash(PLAIN)[0].hex() == "709d7f7a516db76a"
        assert (canonical_key(PLAIN) or b"").hex()[:16] == "8b8335d4e4a41cff"


EVIDENCE: dict[str, Any] = {"title": "The harbour", "exif:DateTimeOriginal": "2019-07-06T13:05:11"}


class TestDigests:
    DATA = b"some bytes"

    KINDS = ("sha256", "sha512", "sha384", "sha3_512", "sha3_384", "sha3_256", "sha1", "md5")

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "key",
        ["X-TIKA:digest:{}", "{}", "{}sum", "tk:digest:{}", "X-TIKA:digest:{}:BASE32", "tk:digest:{}:hex"],
    )
    def test_digest_of_each_kind_and_spelling_is_found(self, kind: str, key: str) -> None:
        data = hashlib.new(kind, self.DATA).digest()
        for name in {key.format(kind.upper()), key.format(kind.replace("sha", "SHA-")), key.format(kind)}:
            for text in (
                data.hex(),
                data.hex().upper(),
                base64.b32encode(data).decode(),
                base64.b32encode(data).decode().rstrip("="),
                base64.b64encode(data).decode(),
            ):
                assert recorded_digest({name: text}) == (kind.replace("_", ""), data)
                assert recorded_digest({name: [text]}) == (kind.replace("_", ""), data)

    def test_preferred_digest_is_returned(self) -> None:
        digests = {
            kind: hashlib.new(kind, self.DATA).hexdigest() for kind in ("md5", "sha1", "sha512", "sha256")
        }
        for best in ("sha256", "sha512", "sha1", "md5"):
            assert recorded_digest(digests) == (best, hashlib.new(best, self.DATA).digest())
            del digests[best]

    @pytest.mark.parametrize(
        "metadata",
        [
            {"md5": "abc"},
            {"md5": 12},
            {"sha256": "z" * 64},
            {"X-TIKA:digest:text:MD5": "0" * 32},
            {"digest": "0" * 64},
        ],
    )
    def test_other_values_are_no_digest(self, metadata: dict[str, Any]) -> None:
        assert recorded_digest(metadata) is None

    def test_recorded_sha256_is_the_identity(self) -> None:
        digest = hashlib.sha256(self.DATA)
        assert identity({"X-TIKA:digest:SHA256": digest.hexdigest()}, "/a") == digest.digest()

    def test_other_identities_do_not_collide(self) -> None:
        md5 = hashlib.md5(self.DATA).hexdigest()
        found = [
            identity(one, "/a")
            for one in ({"md5": md5}, {"sha1": md5 + "0" * 8}, PLAIN, PLAIN | {"md5": md5}, {"key": md5})
        ]
        assert found[0] == found[3]
        assert len({*found, hashlib.sha256(self.DATA).digest()}) == 5
        assert {len(one or b"") for one in found} == {32}

    VALUES = ("0" * 64, "1" * 64)

    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("X-TIKA:digest:SHA256", VALUES),
            ("X-TIKA:digest:SHA256", ([VALUES[0]], [VALUES[1]])),
            ("X-TIKA:digest:SHA256", (VALUES, [VALUES[0]])),
            ("X-TIKA:digest:SHA256", ([*VALUES, "2" * 64], [*VALUES, "3" * 64])),
            ("X-TIKA:digest:SHA256:BASE32", ("A" * 52 + "====", "B" * 52 + "====")),
            ("X-TIKA:digest:SHA3_256", VALUES),
            ("tk:digest:SHA256", VALUES),
            ("tk:digest:MD2", ("0" * 32, "1" * 32)),
            ("tk:digest:BLAKE3", VALUES),  # of an unknown kind
            ("X-TIKA:digest:CRC32", ("01234567", "89abcdef")),
            ("X-TIKA:digest:MD5", ("a short digest", "another")),
            ("md5", (1, 2)),
            ("File:ImageDataHash", VALUES),
            ("fs:checksum", VALUES),
        ],
        ids=str,
    )
    def test_different_digests_make_two_images(self, key: str, values: tuple[Any, Any]) -> None:
        """Also if another recorded digest, or all other metadata, are equal."""
        for other in ({}, EVIDENCE, {"md2": "0" * 32}, {**EVIDENCE, "sha1": "0" * 40}):
            one, two = ({**other, key: value} for value in values)
            assert identity(one, "/a") != identity(two, "/b") or not identity(one, "/a")

    def test_equal_digests_make_one_image(self) -> None:
        digests = {"X-TIKA:digest:SHA1": "0" * 40, "tk:digest:SHA3_512": ["1" * 128]}
        assert identity(digests, "/a") == identity({**digests, "title": "x"}, "/b")
        assert identity({"md5": "0" * 32}, "/a") == identity({"tk:digest:MD5": ["0" * 32]}, "/b")

    def test_equal_values_that_are_no_digests_do_not_identify(self) -> None:
        one = {"Image Width": 640, "X-TIKA:digest:SHA256": "none"}
        assert identity(one, "/a") != identity(one, "/b")


class TestEvidence:
    @pytest.mark.parametrize(
        "metadata", [PLAIN, PLAIN | {"File Size": "12345 bytes"}, PLAIN | {"dc:title": "x"}, {"serial": "1"}]
    )
    def test_equal_metadata_with_too_few_discriminating_values_do_not_identify(
        self, metadata: dict[str, Any]
    ) -> None:
        first = identity(metadata, "/a")
        assert first is not None
        assert first == identity(metadata | FILE_SYSTEM, "/a"), "the same image again"
        assert first != identity(metadata, "/b")

    def test_equal_metadata_with_two_discriminating_values_identify(self) -> None:
        metadata = PLAIN | {"dc:title": "x", "geo:lat": 1}
        assert identity(metadata, "/a") == identity(metadata | FILE_SYSTEM, "/b") == canonical_key(metadata)
        assert identity(metadata, "/a") != identity({**metadata, "geo:lat": 2}, "/a")

    def test_notes_of_tika_4_about_its_work_do_not_count(self) -> None:
        metadata = {"dc:title": "x", "geo:lat": 1}
        notes = {"tk:parse_time_millis": "12", "tk:Parsed-By": ["x"], "TK:content_handler": "y"}
        assert canonical(metadata | notes) == canonical(metadata)


class TestSimhash:
    def test_metadata_with_only_the_content_type_in_common_is_far_apart(self) -> None:
        ones = [
            {"Content-Type": "image/jpeg"} | {f"key {n} {m}": str(m) for m in range(5)} for n in range(40)
        ]
        apart = [distance(one, other) for one, other in itertools.combinations(ones, 2)]
        assert min(apart) > 10
        assert sum(apart) / len(apart) == pytest.approx(32, abs=1.5)

    def test_metadata_with_one_changed_field_is_near(self) -> None:
        chance = random.Random(1)
        near = []
        for _ in range(300):
            one = record(chance)
            near.append(distance(one, {**one, chance.choice(list(PLAIN)[2:]): "other"}) <= SIMHASH_K)
        assert sum(near) / len(near) > 0.85

    def test_pictures_by_one_camera_are_far_apart(self) -> None:
        chance = random.Random(2)
        ones = [record(chance) for _ in range(150)]
        assert all(simhash(one)[1] for one in ones)
        apart = [distance(one, other) for one, other in itertools.combinations(ones, 2)]
        assert sum(one <= SIMHASH_K for one in apart) <= len(apart) // 10_000

    def test_pictures_taken_at_another_time_are_far_apart(self) -> None:
        chance = random.Random(3)
        ones = [record(chance) for _ in range(100)]
        others = [
            one | {key: "2001-01-01T00:00:00" for key in one if "riginal" in key or "created" in key}
            for one in ones
        ]
        assert sum(distance(*pair) <= SIMHASH_K for pair in zip(ones, others, strict=True)) <= 1

    def test_fewer_than_two_discriminating_values_are_not_enough(self) -> None:
        """They are common to two pictures of equal dimensions by one encoder."""
        assert not simhash(PLAIN)[1]
        assert not simhash(PLAIN | {"File Size": "12345 bytes"})[1]
        assert not simhash(PLAIN | {"dc:title": "x"})[1]
        assert simhash(PLAIN | {"dc:title": "x", "geo:lat": 1})[1]

    def test_simhash_is_the_same_in_every_process(self) -> None:
        assert simhash({"a": 1, "title": "x"})[0] == bytes.fromhex("c8ef2346e242accd")
