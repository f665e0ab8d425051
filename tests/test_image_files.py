"""Which files are meant: folders, patterns, DICOM without a suffix, what is left out."""

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

from kerasland.errors import DataError, UsageError
from kerasland.image_files import find_images, image_stem, image_suffix

GREY = np.zeros((4, 4), np.uint8)


@pytest.fixture
def study(tmp_path):
    for name in ("b.png", "a.JPG", "one/c.tif", "one/two/d.png", "out/overlays/b.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).save(path)
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "one" / "e.nii.gz").write_bytes(b"")
    for name in ("landmarks.csv", "landmarks.json"):
        (tmp_path / "out" / name).touch()
    return tmp_path


def names(study, *paths, out=None):
    return [str(path.relative_to(study)) for path in find_images(paths, out)]


def test_files_and_folders(study):
    assert names(study, study) == ["a.JPG", "b.png"]
    assert names(study, study / "one") == ["one/c.tif", "one/e.nii.gz"]
    # what is named is meant, once however often and in whatever way
    twice = [study / "notes.txt", study / "b.png", study / "one" / ".." / "b.png", study]
    assert names(study, *twice) == ["notes.txt", "b.png", "a.JPG"]


def test_patterns(study):
    assert names(study, f"{study}/*.png") == ["b.png"]
    out = study / "out"
    everywhere = ["b.png", "one/two/d.png"]
    assert names(study, f"{study}/**/*.png", out=out) == everywhere
    assert names(study, f"{study}/**/*.png") == ["b.png", "one/two/d.png", "out/overlays/b.png"]
    # a pattern that matches folders too gives each image once, and nothing else
    every = ["a.JPG", "b.png", "one/c.tif", "one/e.nii.gz", "one/two/d.png"]
    assert names(study, f"{study}/**", out=out) == every
    assert names(study, f"{study}/o[n]e") == ["one/c.tif", "one/e.nii.gz"]
    (study / "x[1].png").write_bytes(b"")
    assert names(study, study / "x[1].png") == ["x[1].png"]
    (study / "one").rename(study / "one [1]")
    assert names(study, f"{study}/one [1]/**/*.png") == ["one [1]/two/d.png"]


def test_a_pattern_finds_images_of_the_folder_that_is_written_to(study, monkeypatch):
    Image.fromarray(GREY).save(study / "out" / "own.png")
    every = ["b.png", "one/two/d.png", "out/own.png"]
    assert names(study, f"{study}/**/*.png", out=study / "out") == every
    monkeypatch.chdir(study / "out")
    assert [str(path) for path in find_images(["*"], ".")] == ["own.png"]


def test_links(study):
    """A folder that leads to itself gives each image once, one that leads nowhere is not left out
    in silence, and two names of a file are two images."""
    for name, place in (("loop", "."), ("gone.png", "no.png"), (".gone.png", "no.png")):
        (study / "one" / name).symlink_to(place)
    (study / "one" / "round.png").symlink_to("round.png")
    (study / "one" / "same.png").symlink_to("two/d.png")
    found = [f"one/{name}.png" for name in ("gone", "round", "same", "two/d")]
    assert names(study, f"{study}/one/**/*.png", out=study / "out") == found
    assert [n for n in names(study, study / "one") if n.endswith("png")] == found[:3]
    assert names(study, *(study / name for name in found), out=study / "out") == found


def test_parents_of_links_are_those_of_the_system(study):
    """`..` of a folder that a link leads to is not the folder of the link."""
    (study / "link").symlink_to("one/two")
    Image.fromarray(GREY).save(study / "one" / "b.png")
    found = find_images([study / "b.png", study / "link" / ".." / "b.png"])
    assert [path.resolve() for path in found] == [study / "b.png", study / "one" / "b.png"]


def test_no_radiograph_lies_where_overlays_are_written_by_a_link(study):
    out = study / "two"
    out.mkdir()
    (out / "overlays").symlink_to(study / "one")
    with pytest.raises(UsageError, match=r"one/c\.tif: lies where .*; name another --out"):
        find_images([study / "one"], out)
    (study / "one" / "in.png").symlink_to(study / "out" / "overlays" / "b.png")
    with pytest.raises(UsageError, match=r"one/in\.png: lies where .*; name another --out"):
        find_images([study / "one"], study / "out")


def test_radiographs_beside_what_corrects_them_are_meant(study):
    labelled = study / "out" / "labelme"
    labelled.mkdir()
    Image.fromarray(GREY).save(labelled / "x.png")
    found = names(study, labelled, study / "b.png", out=study / "out")
    assert found == ["out/labelme/x.png", "b.png"]


def test_dicom_needs_no_suffix(study):
    pytest.importorskip("pydicom")
    for name in ("IM1", "1.2.840.9", "DICOMDIR", "dicomdir"):
        write_dicom(study / "one" / "two" / name, GREY)
    assert names(study, study / "one" / "two") == [
        f"one/two/{n}" for n in ("1.2.840.9", "IM1", "d.png")
    ]


def test_what_a_shell_makes_of_a_pattern(study):
    """It names what an earlier call wrote too, and the folder that holds nothing else."""
    out = study / "out"
    below = names(study, *study.glob("*/*"), out=out)
    assert sorted(below) == ["one/c.tif", "one/e.nii.gz", "one/two/d.png"]
    assert names(study, study / "b.png", out, out=out) == ["b.png"]
    assert names(study, study / "b.png", *out.iterdir(), out=out) == ["b.png"]
    with pytest.raises(DataError, match="no image but what an earlier call has written"):
        find_images([out, out / "overlays"], out)
    Image.fromarray(GREY).save(out / "own.png")
    assert names(study, study / "b.png", out, out=out) == ["b.png", "out/own.png"]


@pytest.mark.parametrize("name", ["overlays", "overlays/b.png"])
def test_pictures_are_not_written_over_what_they_are_made_of(study, name):
    path = study / "out" / name
    assert names(study, path, out=study) == ["out/overlays/b.png"]
    with pytest.raises(UsageError, match=r"overlays/b\.png: lies where .*; name another --out"):
        find_images([path], study / "out")


@pytest.mark.parametrize("path", ["gone.png", "none/*.png", "**/*.bmp", "empty"])
def test_nothing_there_is_said(study, path):
    (study / "empty").mkdir()
    said = {"gone.png": "no such image", "empty": "no image in this folder"}
    with pytest.raises(DataError, match=said.get(path, "matches no image")) as raised:
        find_images([study / path])
    assert "/**" not in str(raised.value).removeprefix(f"{study / path}")


def test_images_in_folders_further_down_are_thought_of(study):
    (study / "above").mkdir()
    (study / "one").rename(study / "above" / "one")
    with pytest.raises(DataError, match=r'no image in this folder .*above/\*\*" looks into'):
        find_images([study / "above"])
    assert names(study, f"{study / 'above'}/**") == [
        f"above/one/{name}" for name in ("c.tif", "e.nii.gz", "two/d.png")
    ]


def test_names():
    for name, stem, suffix in (
        ("a/b.PNG", "b", ".png"),
        ("a.nii.gz", "a", ".nii.gz"),
        ("a.b.nii", "a.b", ".nii"),
        ("1.2.840", "1.2.840", ""),
    ):
        assert image_stem(name) == stem and image_suffix(name) == suffix
