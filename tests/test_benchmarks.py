"""Runs every benchmark on few files. Checks what it finds and prints, never how long it takes."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image, ImageSequence

from beam_dedup.core.imaging import dct, formats
from benchmarks import (
    components,
    corpora,
    graphics,
    peers,
    pictures,
    raw,
    report,
    review,
    store,
    stream,
    stream_core,
    tables,
    throughput,
    tools,
)
from tests.pictures import encoded, fingerprint_of, photo
from tests.services import servers
from tests.services.browser import browser
from tests.services.require_service import required

README = report.README.read_text("utf-8")

# Writes the output of a czkawka_cli that finds one group.
CZKAWKA = """#!{python}
import json, pathlib, sys
if sys.argv[1] == "--version":
    print("czkawka 99.0\\ncommit: unknown")
else:
    folder, out = sys.argv[sys.argv.index("-d") + 1], sys.argv[sys.argv.index("-C") + 1]
    paths = sorted(str(path) for path in pathlib.Path(folder).rglob("*.jpg"))
    json.dump([[dict(path=path, size=1, difference=0) for path in paths[:2]]], open(out, "w"))
"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    pictures.make("web", folder, 12, None, 1)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, each also compressed again (near) and turned by 180 degrees (geo)."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "images").mkdir()
    lines = ["file,group,level"]
    for seed in range(3):
        image = photo(seed)
        turned = image.transpose(Image.Transpose.ROTATE_180)
        for level, picture, quality in (("", image, 95), ("near", image, 60), ("geo", turned, 95)):
            name = f"{seed}{level}.jpg"
            (folder / "images" / name).write_bytes(encoded(picture, "JPEG", quality=quality))
            lines.append(f"{name},{seed},{level}")
    (folder / "truth.csv").write_text("\n".join(lines))
    return folder


def rows(text: str) -> dict[str, list[str]]:
    """Returns the cells of each row of a table, by the first cell of the row."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): cells[1:] for cells in lines}


class TestPictures:
    def test_web_pictures_are_different_and_have_web_sizes(self, web: Path) -> None:
        files = sorted(web.rglob("*.jpg"))
        codes = {fingerprint_of(path.read_bytes()).codes for path in files}
        assert (len(files), len(codes)) == (12, 12)
        sizes = [Image.open(path).size for path in files]
        assert all(450 <= width < 550 and 360 <= height < 440 for width, height in sizes)

    def test_same_options_make_the_same_files(self, web: Path, tmp_path: Path) -> None:
        pictures.make("web", tmp_path, 3, None, 1)
        for path in tmp_path.rglob("*.jpg"):
            assert path.read_bytes() == (web / path.relative_to(tmp_path)).read_bytes()

    def test_camera_pictures_are_baseline_jpegs(self) -> None:
        extension, data = pictures.camera(np.random.default_rng(1), None, (400, 300))
        image = Image.open(io.BytesIO(data))
        assert (extension, image.size, "progressive" in image.info) == (".jpg", (400, 300), False)

    def test_small_files_are_different_and_have_2_to_8_kb(self, tmp_path: Path) -> None:
        pictures.make("small", tmp_path, 40, None, 1)
        contents = [path.read_bytes() for path in tmp_path.rglob("*.*")]
        assert len(set(contents)) == 40
        assert {formats.sniff(data) for data in contents} == {"JPEG", "PNG"}
        for data in contents:
            assert 2_000 <= len(data) <= 8_100
            Image.open(io.BytesIO(data)).load()


class TestRaw:
    def test_digest_and_code_equal_those_of_the_package(self) -> None:
        data = encoded(photo(), "JPEG")
        digest, code = raw.fingerprint(data)
        ours = fingerprint_of(data)
        [long_code] = ours.codes
        ordered = np.unpackbits(np.frombuffer(code, np.uint8))[dct.BIT_ORDER]
        assert digest == ours.digest
        assert np.packbits(ordered).tobytes() == long_code.data

    @pytest.mark.parametrize(("digests", "codes"), [(False, 12), (True, 0)])
    def test_summary_counts_digests_and_codes(self, digests: bool, codes: int, web: Path) -> None:
        assert raw.summary(raw.results(web, 1, digests)) == f"12 files, 12 digests, {codes} codes"


class TestThroughput:
    def test_web_section_has_rates_and_verdicts(self, web: Path, capsys: pytest.CaptureFixture[str]) -> None:
        throughput.main(["web", str(web), "--sizes", "3", "12", "--rounds", "1", "-j", "1", "-k", "6"])
        output = capsys.readouterr().out
        assert {"raw, 1 processes", "dedup -n -j 1 -k 6"} <= rows(output).keys()
        assert "12 kept, 0 duplicates, 0 rejected" in output
        assert "Pillow" in output

    def test_small_section_has_rates_and_verdicts(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "small"
        pictures.make("small", folder, 30, None, 1)
        throughput.main(["small", str(folder), "--sizes", "10", "30", "--rounds", "1", "-j", "1"])
        output = capsys.readouterr().out
        assert {"raw, 1 processes", "dedup -e -j 1"} <= rows(output).keys()
        assert "30 kept, 0 duplicates, 0 rejected" in output
        assert [path.name for path in tmp_path.iterdir()] == ["small"]

    @pytest.mark.slow
    def test_tables_have_the_images_of_the_files(
        self, web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        counts = tmp_path / "c.json"
        before = set(web.parent.iterdir())
        tables.main(
            [str(web), "--count", "7", "--shards", "2", "--rounds", "1", "-j", "1", "--counts", str(counts)]
        )
        assert json.loads(counts.read_text())["Final_Image_Count"] == 7
        assert {"files", "2 Parquet files", "2 Arrow files", "1 Parquet file"} <= rows(
            capsys.readouterr().out
        ).keys()
        assert set(web.parent.iterdir()) == before

    def test_too_few_files_are_reported(self, web: Path) -> None:
        with pytest.raises(SystemExit, match="has 12 files, but 13 are needed"):
            throughput.main(["web", str(web), "--sizes", "2", "13"])


class TestStreams:
    def test_core_prints_a_row(self, capsys: pytest.CaptureFixture[str]) -> None:
        stream_core.main(["--remembered", "300", "-k", "4", "--block", "100", "--prefix", "0"])
        assert "300" in capsys.readouterr().out

    @pytest.mark.slow
    @pytest.mark.parametrize(("flag", "images", "judged"), [("--remembered", 10, 12), ("--before", 10, 12)])
    def test_fed_images_are_judged_against_remembered_ones(
        self,
        flag: str,
        images: int,
        judged: int,
        web: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        stream.main([str(web), str(tmp_path), flag, "50", "--rate", "20"])
        assert f"{images} images: " in capsys.readouterr().out
        assert len(list((tmp_path / "in").iterdir())) == judged


class TestStore:
    @pytest.mark.service
    @pytest.mark.slow
    def test_report_has_whole_runs_and_reading_alone(
        self, web: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with required(servers.gcs()) as service:
            monkeypatch.setenv(
                "STORAGE_EMULATOR_HOST", service.url
            )  # monkeypatch restores what the benchmark sets
            store.main([str(web), "--count", "4", "--delay", "0.01", "-j", "1"])
            FileSystems.set_options(PipelineOptions([]))
        output = capsys.readouterr().out
        assert "4 files, each request delayed by 10 ms" in output
        rows = ("reading alone, 1 ", "reading alone, 32", "one at a time", "32 at once", "from a disk")
        assert all(row in output for row in rows)


class TestReview:
    pytestmark = pytest.mark.service

    def test_table_has_times_memory_and_thumbnails(
        self, web: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with required(browser()):
            pass
        review.main(["--groups", "300", "--pictures", "900", "--files", str(web)])
        found = rows(capsys.readouterr().out)
        assert found["data"][0].startswith("4 files, ")
        assert found["thumbnails"][0].startswith("7 files, ")
        assert float(found["first group shown after"][0].removesuffix(" ms")) > 0
        assert float(found["JavaScript heap at the end"][0].removesuffix(" MiB")) > 0
        assert f"thumbnails of 12 files in {web.name}" in found


class TestPeers:
    @pytest.fixture
    def czkawka(self, tmp_path: Path) -> str:
        program = tmp_path / "czkawka"
        program.write_text(CZKAWKA.format(python=sys.executable))
        program.chmod(0o755)
        return str(program)

    @pytest.mark.slow
    def test_loop_section_has_both_tools(self, web: Path, capsys: pytest.CaptureFixture[str]) -> None:
        peers.main(["loop", "--set", str(web), "2", "4", "--rounds", "1"])
        output = capsys.readouterr().out
        assert f"imagehash {tools.loop().version}" in output
        assert output.count(f"| {web.name} |") == 2

    def test_whole_section_shows_missing_tools(
        self, web: Path, czkawka: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        peers.main(["whole", str(web), "--count", "5", "--rounds", "1", "-j", "1", "--czkawka", czkawka])
        output = capsys.readouterr().out
        found = rows(output)
        assert (found["dedup -n"][-1], found["czkawka_cli"][-1]) == ("0", "1")
        assert "czkawka_cli 99.0" in output
        assert "not installed" in found["imagededup"][0]

    def test_found_section_counts_right_and_wrong_files(
        self, corpus: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        peers.main(["found", str(corpus), "-j", "1", "--czkawka", "none", "--python", "none"])
        found = rows(capsys.readouterr().out)
        assert found["dedup -n"][1:] == ["3", "1.0000", "0", "1.0000", "3", "0.5000", "0", "1.0000"]
        for name in ("czkawka_cli", "imagededup", "perception"):
            assert found[name][0].startswith("not installed: `")

    def test_wrong_pairs_reduce_precision(self) -> None:
        truth = {name: {"group": name[0]} for name in ("a1", "a2", "b1")}
        removed = peers.removed_files([["a1", "a2"], ["a2", "b1"], ["a1", "b1"]])
        assert peers.judged(removed, list(truth), truth) == ["1", "1.0000", "1", "0.5000"]

    def test_missing_output_of_czkawka_means_no_groups(self, tmp_path: Path) -> None:
        assert tools.czkawka_groups(tmp_path, tmp_path / "none.json") == []


class TestReport:
    @pytest.mark.parametrize(
        "name",
        [
            *(f"throughput-{files}" for files in throughput.SIZES),
            *(f"peers-{what}" for what in peers.SECTIONS),
            "tables",
        ],
    )
    def test_readme_has_the_markers_of_every_section(self, name: str) -> None:
        assert report.replaced(README, name, "TEXT").count("TEXT") == 1

    def test_publish_replaces_a_section_only_when_asked_to_write(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = tmp_path / "page.md"
        page.write_text("a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n")
        report.publish("x", "shown", write=False, readme=page)
        assert "old" in page.read_text()
        report.publish("x", "new", write=True, readme=page)
        assert page.read_text() == "a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb\n"
        assert capsys.readouterr().out == "shown\nnew\n"
        with pytest.raises(ValueError, match="begin y"):
            report.publish("y", "new", write=True, readme=page)


class TestCorpora:
    def test_graphics_of_a_kind_are_different_and_have_copies(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        graphics.main(["make", str(tmp_path), "--count", "2"])
        kinds = len(graphics.KINDS)
        assert f"{kinds * 2 * (1 + len(graphics.COPIES))} files" in capsys.readouterr().out
        originals = [Image.open(path) for path in sorted((tmp_path / "images").glob("*-000[01].png"))]
        assert len({(image.size, image.tobytes()) for image in originals}) == len(originals) == kinds * 2
        graphics.main(["measure", str(tmp_path)])
        table = rows(capsys.readouterr().out)
        assert table["star-field"] == ["2", "1", "0", "12", "1.0000"]
        assert table["comic-page"] == ["2", "1", "0", "12", "1.0000"]
        assert table["all, also of two kinds"][:2] == [str(kinds * 2), f"{kinds * (2 * kinds - 1)}"]

    def test_cuts_leave_most_of_a_photo(self, tmp_path: Path) -> None:
        """The part that each kind of cut leaves has the documented size."""
        photo(0, (600, 400)).save(tmp_path / "photo.png")
        made = {(row.transform, row.file): row.content for row in corpora.crops(tmp_path)}
        shares: dict[str, list[float]] = {}
        for (cut, _), content in made.items():
            width, height = Image.open(io.BytesIO(content)).size
            shares.setdefault(cut, []).append(width * height / (600 * 400))
        assert {cut: len(of_cut) for cut, of_cut in shares.items()} == {
            "": 1,
            **dict.fromkeys(corpora.CUTS, 5),
        }
        assert all(0.8**2 <= share < 1 for share in shares["every-side"])
        assert all(0.82 <= share <= 0.98 for share in shares["one-side"])
        assert {round(share, 6) for share in shares["square"]} == {round(400 / 600, 6)}

    def test_films_of_a_pair_differ_only_after_their_first_frame(self, tmp_path: Path) -> None:
        assert corpora.write(tmp_path, corpora.films(1)) == 10
        films = [Image.open(tmp_path / "images" / f"film-0000-{one}-apng.png") for one in (1, 2)]
        frames = [
            [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(film)] for film in films
        ]
        assert [len(of_film) for of_film in frames] == [8, 8]
        assert [one == other for one, other in zip(*frames, strict=True)] == [True] + [False] * 7


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_chain_is_one_component(shards: bool, pairs: bool) -> None:
    assert components.component_sizes(900, 200, 8, shards, pairs) == [200]
