"""Rules of `--keep` as texts."""

import re

import pytest

from beam_dedup.core.preference import RAW_FORMATS, KeepPolicy, Preference, parse_rules


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], []),
        (["first"], []),
        (["largest"], ["pixels", "bytes"]),
        (["oldest", "pixels"], ["oldest", "pixels"]),
        (["pixels, taken ,metadata"], ["pixels", "taken", "metadata"]),
        (["format:raw,heic,png,pixels"], ["format:raw,heic,png", "pixels"]),
        (["format:JPG", "Heic", "largest"], ["format:JPG,Heic", "pixels", "bytes"]),
        (["format:png,format:gif"], ["format:png", "format:gif"]),
        (["path:a b,not:*/c,first"], ["path:a b", "not:*/c"]),
        ([r"path:a\,b,bytes"], [r"path:a\,b", "bytes"]),
        (["path:a\\", "b"], ["path:a\\,b"]),  # as a template splits it
        (["path:x:y"], ["path:x:y"]),
    ],
)
def test_rules_and_names_of_formats_are_told_apart(texts: list[str], names: list[str]) -> None:
    assert [rule.text for rule in parse_rules(texts)] == names


def test_formats_have_an_order_and_raw_stands_for_several() -> None:
    [rule] = parse_rules(["format:raw,heic,jpg"])
    assert rule.formats == (RAW_FORMATS, ("HEIF",), ("JPEG",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", 'must be rules, each path:GLOB, not:GLOB, format:NAME or one of first, largest, oldest'),
        ("smallest", 'got "smallest"'),
        ("pixels,", 'got ""'),
        ("pixel", 'got "pixel". Did you mean pixels?'),
        ("paths:a", 'got "paths:a". Did you mean path:?'),
        ("png", 'got "png"'),
        ("pixels,png", 'got "png"'),
        ("path:a,b", 'got "b" (a comma within path:GLOB is written \\,)'),
        ("format:png,foo", 'or a format; got "foo"'),
        ("format:", 'must name formats after format: (arw, avif, '),
        ("format:foo", '); got "foo"'),
        ("first,pixels", 'must end with first, which leaves no ties; got "pixels" after it'),
        (",".join(["pixels"] * 32), "must have fewer rules: the values of these take 256 bytes per image"),
    ],
)  # fmt: skip
def test_wrong_rules_are_refused_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_rules([text])


def test_many_rules_fit_into_a_rank() -> None:
    assert len(parse_rules([",".join(f"path:{number}" for number in range(250))])) == 250


def test_only_rules_about_the_picture_need_facts() -> None:
    for text, needed in (
        ("largest,path:a,format:raw,oldest", False),
        ("pixels,taken", True),
        ("metadata", True),
    ):
        assert Preference(parse_rules([text])).needs_facts == needed
    assert not any(Preference.of(policy).needs_facts for policy in KeepPolicy)
