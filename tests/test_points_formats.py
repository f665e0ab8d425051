"""The same points as COCO keypoints, labelme and CVAT files, and the files that are refused."""

from __future__ import annotations

import json
import shutil
import time
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image

from data_prep import points_csv
from kerasland import prepared

HEIGHT, WIDTH = 100, 80
LANDMARKS = ("wrist", "thumb", "tip & nail")
TRUTH = {  # (0, 0) is the centre of the first pixel
    "p0": {"wrist": (1, 2), "thumb": (30.25, 4.5), "tip & nail": (79, 99)},
    "p1": {"wrist": (5, 6), "tip & nail": (0, 0)},
    "p2": {"thumb": (0.6, 50)},
}


def coco(truth, shift=0.0) -> dict:
    images, annotations = [], []
    for i, (name, points) in enumerate(truth.items()):
        shape = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": 10 + i, "file_name": f"sub/{name}.png", **shape})
        triples = [
            [points[k][0] + shift, points[k][1] + shift, 1 + i % 2] if k in points else [0, 0, 0]
            for k in LANDMARKS
        ]
        annotations.append(
            {
                "id": 100 + i,
                "image_id": 10 + i,
                "category_id": 7,
                "iscrowd": 0,
                "bbox": [0, 0, WIDTH, HEIGHT],
                "num_keypoints": len(points),
                "keypoints": sum(triples, []),
            }
        )
    box = {"id": 1, "name": "film"}
    hand = {"id": 7, "name": "hand", "keypoints": list(LANDMARKS), "skeleton": [[1, 2]]}
    annotations.append({"id": 999, "image_id": 10, "category_id": 1, "bbox": [0, 0, 9, 9]})
    return {"images": images, "annotations": annotations, "categories": [box, hand]}


def labelme(name, points, shift=0.5) -> dict:
    shapes = [
        {
            "label": label,
            "points": [[x + shift, y + shift]],
            "group_id": None,
            "shape_type": "point",
            "flags": {},
        }
        for label, (x, y) in points.items()
    ]
    box = {"label": "film", "points": [[0, 0], [9, 9]], "shape_type": "rectangle"}
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [*shapes, box],
        "imagePath": f"..\\images\\{name}.png",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }


def cvat(truth, skeleton=False, shift=0.5) -> str:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    lines += ["<meta><task><name>hands</name><size>3</size></task></meta>"]
    for i, (name, points) in enumerate(truth.items()):
        lines.append(f'<image id="{i}" name="{name}.png" width="{WIDTH}" height="{HEIGHT}">')
        lines.append('<box label="film" xtl="0" ytl="0" xbr="9" ybr="9"/>')
        elements = [
            f'<points label={quoteattr(label)} outside="0" occluded="0" source="manual" '
            f'points="{x + shift:.2f},{y + shift:.2f}"></points>'
            for label, (x, y) in points.items()
        ]
        if skeleton:
            absent = [label for label in LANDMARKS if label not in points]
            elements += [
                f'<points label={quoteattr(label)} outside="1" points="8.0,8.0"/>'
                for label in absent
            ]
            elements = ['<skeleton label="hand" source="manual">', *elements, "</skeleton>"]
        lines += [*elements, "</image>"]
    return "\n".join([*lines, "</annotations>", ""])


@pytest.fixture
def mine(tmp_path):
    """Images `mine/sub/p0.png` ... and a function that prepares points written beside them."""
    folder = tmp_path / "mine" / "sub"
    folder.mkdir(parents=True)
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i}.png")

    def prepare(points: str, *options: str) -> int:
        sources = [tmp_path / name for name in points.split()]
        paths = ["--images", tmp_path / "mine", "--points", *sources]
        return points_csv.main([*map(str, paths), "--out", str(tmp_path / "out"), *options])

    prepare.folder = tmp_path
    return prepare


def write_labelme(folder, truth, **kwargs) -> None:
    folder.mkdir()
    for name, points in truth.items():
        (folder / f"{name}.json").write_text(json.dumps(labelme(name, points, **kwargs)))


def write(folder, kind, shift=None) -> str:
    """Writes the truth as a file of a kind and gives its name; `shift`: of its first pixel."""
    moved = {} if shift is None else {"shift": shift}
    if kind == "labelme":
        write_labelme(folder / "labels", TRUTH, **moved)
        return "labels"
    if kind == "coco":
        (folder / "points.json").write_text(json.dumps(coco(TRUTH, **moved)))
        return "points.json"
    text = cvat(TRUTH, skeleton=kind == "cvat skeletons", **moved)
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return "annotations.xml"


def expected(dataset) -> np.ndarray:
    points = [[TRUTH[i].get(k, (np.nan, np.nan)) for k in dataset.landmarks] for i in dataset.ids]
    return np.array(points, dtype=float)


KINDS = ["coco", "labelme", "cvat", "cvat skeletons"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_points_of_every_kind(mine, kind):
    assert mine(write(mine.folder, kind), "--mm-per-px", "0.5") == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.landmarks == LANDMARKS and dataset.ids == ("p0", "p1", "p2")
    np.testing.assert_array_equal(dataset.points, expected(dataset))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_may_be_grouped_by_folder(mine, capsys, kind):
    assert mine(write(mine.folder, kind), "--group", "folder") == 2
    assert "can't split 3 images that are all of one group" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_may_be_grouped_by_another_table(mine, kind):
    (mine.folder / "about.csv").write_text("image,patient,mm\np0,A,1\np1.png,B,2\np2,A,3\n")
    told = ["--about", str(mine.folder / "about.csv"), "--group", "patient", "--mm-per-px", "mm"]
    assert mine(write(mine.folder, kind), *told) == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.mm_per_px.tolist() == [1, 2, 3]
    assert sorted(map(sorted, dataset.fold("dev"))) == [["p0", "p2"], ["p1"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first_pixel", [0, 0.5, 1])
def test_the_first_pixel_may_be_stated(mine, kind, first_pixel):
    name = write(mine.folder, kind, shift=first_pixel)
    assert mine(name, "--first-pixel", str(first_pixel)) == 0
    dataset = prepared.read(mine.folder / "out")
    np.testing.assert_array_equal(dataset.points, expected(dataset))


def test_one_based_pixels_of_a_csv(mine):
    (mine.folder / "points.csv").write_text("image,a_x,a_y\np0,80,100\np1,1,1\n")
    assert mine("points.csv") == 1  # (80, 100) lies outside, counted from 0
    assert mine("points.csv", "--first-pixel", "1") == 0
    np.testing.assert_array_equal(
        prepared.read(mine.folder / "out").points[:, 0], [[79, 99], [0, 0]]
    )


def test_what_is_left_out_is_said(mine, capsys):
    truth = {"p0": TRUTH["p0"], "p1": {}}
    text = cvat(truth).replace("</image>", '<tag label="left" source="manual"></tag></image>')
    (mine.folder / "annotations.xml").write_text(text, encoding="utf-8")
    assert mine("annotations.xml") == 0
    said = capsys.readouterr().out
    assert "not used: 2 shapes of type box\n" in said
    assert "1 images have no point annotated: left out" in said
    write_labelme(mine.folder / "labels", TRUTH)
    assert mine("labels") == 0
    assert "not used: 3 shapes of type rectangle\n" in capsys.readouterr().out
    document = labelme("p1", TRUTH["p1"]) | {"flags": {"reviewed": False}}
    (mine.folder / "labels" / "p1.json").write_text(json.dumps(document))
    assert mine("labels") == 0
    assert "rectangle, 1 images without the flag 'reviewed'\n" in capsys.readouterr().out


def test_a_cvat_shape_of_several_points(mine, capsys):
    truth = {"p0": {"wrist": (1, 2)}, "p1": {"wrist": (3, 4)}}
    lungs = ["<points label='lung' points='1.5,2.5;3.5,4.5;5.5,6.5'/></image>"] * 2
    text = cvat(truth).replace("</image>", lungs[0])
    (mine.folder / "a.xml").write_text(text)
    assert mine("a.xml") == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.landmarks == ("wrist", "lung_0", "lung_1", "lung_2")
    np.testing.assert_array_equal(dataset.points[1], [[3, 4], [1, 2], [3, 4], [5, 6]])
    (mine.folder / "a.xml").write_text(text.replace(";5.5,6.5", "", 1))
    assert mine("a.xml") == 1
    assert "image 1: 3 points labelled 'lung', 2 elsewhere" in capsys.readouterr().err
    first, second = text.rsplit(";5.5,6.5", 1)
    (mine.folder / "a.xml").write_text(first + second)
    assert mine("a.xml") == 1
    assert "image 1: 2 points labelled 'lung', 3 elsewhere" in capsys.readouterr().err


def test_coco_categories_with_keypoints_of_their_own(mine, capsys):
    document = coco({"p0": TRUTH["p0"]})
    foot = {"id": 8, "name": "foot", "keypoints": ["heel"]}
    document["categories"].append(foot)
    toes = {"id": 101, "image_id": 10, "category_id": 8, "keypoints": [20, 21, 2]}
    document["annotations"].append(toes)
    (mine.folder / "points.json").write_text(json.dumps(document))
    assert mine("points.json") == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.landmarks == (*LANDMARKS, "heel")
    np.testing.assert_array_equal(dataset.points[0, 3], [20, 21])
    foot["keypoints"] = ["wrist"]
    (mine.folder / "points.json").write_text(json.dumps(document))
    assert mine("points.json") == 1
    assert "several keypoints called wrist; give each its own name" in capsys.readouterr().err


def test_coco_keypoints_that_are_named_by_numbers(mine):
    document = coco(TRUTH)
    document["categories"][1]["keypoints"] = [1, 2, 3]
    (mine.folder / "points.json").write_text(json.dumps(document))
    assert mine("points.json") == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.landmarks == ("1", "2", "3")
    np.testing.assert_array_equal(dataset.points[0], list(TRUTH["p0"].values()))


def test_coco_ids_that_are_texts_and_an_object_of_which_nothing_is_annotated(mine):
    document = coco(TRUTH)
    empty = {**document["annotations"][1], "id": 555, "keypoints": [0] * 9}
    document["annotations"].insert(0, empty)
    for records in document.values():
        for record in records:
            numbers = record.keys() & {"id", "image_id", "category_id"}
            record.update({key: f"no. {record[key]}" for key in numbers})
    (mine.folder / "points.json").write_text(json.dumps(document))
    assert mine("points.json") == 0
    dataset = prepared.read(mine.folder / "out")
    np.testing.assert_array_equal(dataset.points, expected(dataset))


def spoiled_coco(change) -> str:
    document = coco(TRUTH)
    change(document)
    return json.dumps(document)


def second_object(document):
    document["annotations"].append({**document["annotations"][1], "id": 555})


REFUSED_COCO = {
    "several objects": (
        second_object,
        "annotation 555: image sub/p1.png has an object of this category already, annotation 101",
    ),
    "no list": (
        lambda d: d["annotations"][0].update(keypoints=5),
        "annotation 100: no list of values in 'keypoints', expected x, y and visibility of 3",
    ),
    "no image": (
        lambda d: d.update(images=[], annotations=[]),
        "points.json: names no image",
    ),
    "too few values": (
        lambda d: d["annotations"][0]["keypoints"].pop(),
        "annotation 100: 8 values in 'keypoints', expected x, y and visibility of 3",
    ),
    "visibility": (
        lambda d: d["annotations"][1]["keypoints"].__setitem__(2, 3),
        "annotation 101, wrist: visibility 3, expected 0, 1 or 2",
    ),
    "no number": (
        lambda d: d["annotations"][1]["keypoints"].__setitem__(0, None),
        "annotation 101, wrist: x, y = None, 6.0: expected two numbers",
    ),
    "no number that a computer has": (
        lambda d: d["annotations"][1]["keypoints"].__setitem__(0, 10**400),
        "annotation 101, wrist: x, y = 10000",
    ),
    "no such image": (
        lambda d: d["annotations"][2].update(image_id=77),
        "annotation 102: image_id 77 is not in the file",
    ),
    "an image without id": (
        lambda d: d["images"][1].pop("id"),
        "points.json: image 1, counted from 0, has no id",
    ),
    "a category that is a text": (
        lambda d: d["categories"].append("hand"),
        "points.json: category 2, counted from 0, has no id",
    ),
    "an image twice": (
        lambda d: d["images"].append(d["images"][0]),
        "points.json: image 10 comes twice",
    ),
    "a file name twice": (
        lambda d: d["images"].append({**d["images"][0], "id": 11 + 50}),
        "image 61: image sub/p0.png again, first in image 10",
    ),
    "no name": (
        lambda d: d["images"][1].pop("file_name"),
        "image 11: 'file_name' is missing or not a text",
    ),
    "no keypoints": (
        lambda d: d["categories"].pop(),
        "points.json: no category has names of keypoints",
    ),
    "another size": (
        lambda d: d["images"][1].update(width=160, height=200),
        "image 11: annotated on an image of 160 x 200 pixels, but",
    ),
    "another width": (
        lambda d: d["images"][1].update(width=81),
        "image 11: annotated on an image of 81 x 100 pixels, but",
    ),
    "outside": (
        lambda d: d["annotations"][1]["keypoints"].__setitem__(0, 79.6),
        "annotation 101: landmark 0 (wrist) of p1 at (79.6, 6) lies outside the image",
    ),
    "fractions": (
        lambda d: [a.update(keypoints=[0.5, 1.0, 2] * 3) for a in d["annotations"][:3]],
        "points.json: all coordinates are below 1, so they look like fractions",
    ),
    "none": (
        lambda d: d.update(annotations=[]),
        "points.json: no point is annotated",
    ),
}


@pytest.mark.parametrize("name", REFUSED_COCO)
def test_a_coco_file_that_is_refused(mine, capsys, name):
    change, line = REFUSED_COCO[name]
    (mine.folder / "points.json").write_text(spoiled_coco(change))
    refused(mine, capsys, "points.json", line)


def refused(mine, capsys, points, line):
    assert mine(points) == 1
    said = capsys.readouterr().err
    assert line in said and said.startswith("error: ") and said.count("\n") == 1, said
    assert not (mine.folder / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("points.json", "{", "points.json: no JSON ("),
        ("points.json", "[1]", "points.json: neither COCO keypoints ("),
        ("points.json", "[" * 100_000, "points.json: no JSON ("),
        ("labels/p0.json", '{"shapes": 1}', "no annotation of labelme: 'shapes' is missing"),
        ("labels/p0.json", '{"a": 1}', "p0.json: no annotation of labelme"),
        ("labels/p0.json", '{"shapes": []}', "p0.json: 'imagePath' is missing or not a text"),
        ("labels/p0.txt", "", "labels: no JSON file of labelme below this folder"),
        ("a.xml", "<annotations>", "a.xml: no XML ("),
        ("a.xml", '<?xml version="1.0" encoding="utf8mb4"?><a/>', "a.xml: no XML (unknown enc"),
        ("a.xml", "<html/>", "a.xml: no <annotations> with <image>"),
        ("a.xml", "<html><image/></html>", "a.xml: no <annotations> with <image>"),
        ("a.xml", "<annotations><track/></annotations>", "a.xml: tracks of a video"),
        ("nowhere.json", None, "nowhere.json: no such file"),
        ("nowhere.xml", None, "nowhere.xml: no such file"),
        ("nowhere", None, "nowhere: no such table"),
    ],
)
def test_a_file_of_no_kind(mine, capsys, name, text, line):
    path = mine.folder / name
    if text is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    refused(mine, capsys, name.split("/")[0], line)


REFUSED_CVAT = {
    "no name": ('name="p1.png" ', "", "image 1: no name of a file"),
    "no label": ('label="thumb" ', "", "image 0: points without a label"),
    "one number": ("1.50,2.50", "1.50;2.50", "image 0: the points labelled 'wrist' are no pairs"),
    "three": ("1.50,2.50", "1.50,2.50,1", "image 0: the points labelled 'wrist' are no pairs x,y"),
    "a word": ("1.50,2.50", "1.50,x", "image 0, wrist: x, y = '1.50', 'x': expected two numbers"),
}


@pytest.mark.parametrize("name", REFUSED_CVAT)
def test_a_cvat_file_that_is_refused(mine, capsys, name):
    old, new, line = REFUSED_CVAT[name]
    text = cvat(TRUTH)
    assert old in text
    (mine.folder / "a.xml").write_text(text.replace(old, new, 1))
    refused(mine, capsys, "a.xml", line)


@pytest.mark.parametrize("points", [[], [[1, 2], [3, 4]], [[1, 2, 3]], [5]])
def test_a_labelme_shape_that_is_no_point_is_refused(mine, capsys, points):
    write_labelme(mine.folder / "labels", TRUTH)
    document = labelme("p1", TRUTH["p1"])
    document["shapes"][0]["points"] = points
    (mine.folder / "labels" / "p1.json").write_text(json.dumps(document))
    refused(mine, capsys, "labels", "p1.json: the shape 'wrist' is no named point of x and y")


def test_spaces_around_a_label_are_no_part_of_it(mine):
    write_labelme(mine.folder / "labels", {"p0": {" wrist ": (1, 2)}})
    (mine.folder / "a.xml").write_text(cvat({"p1": {" wrist ": (3, 4)}}))
    assert mine("labels a.xml") == 0
    assert prepared.read(mine.folder / "out").landmarks == ("wrist",)


def test_few_points_near_the_corner_are_meant(mine):
    """No landmark in two images only, nor two points within half a pixel of the image's edge."""
    table = "image,a_x,a_y,b_x,b_y\np0,0.5,0.2,-0.25,-0.25\np1,0.1,0.3,-0.25,-0.25\np2,,,9,9\n"
    (mine.folder / "points.csv").write_text(table)
    assert mine("points.csv") == 0


def test_labelme_and_cvat_refuse_a_label_twice(mine, capsys):
    write_labelme(mine.folder / "labels", TRUTH)
    document = labelme("p1", TRUTH["p1"])
    document["shapes"].append({**document["shapes"][0], "group_id": 2})
    (mine.folder / "labels" / "p1.json").write_text(json.dumps(document))
    refused(mine, capsys, "labels", "p1.json: p1.png wrist again, first in ")
    shape = '<points label="wrist" points="1,2"/></image>'
    (mine.folder / "a.xml").write_text(cvat(TRUTH).replace("</image>", shape, 1))
    refused(mine, capsys, "a.xml", "image 0: p0.png wrist again, first in image 0")


def test_entities_that_grow_without_end_are_refused_at_once(mine, capsys):
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "lol">{entities}]><annotations>&e9;</annotations>'
    (mine.folder / "a.xml").write_text(bomb)
    started = time.monotonic()
    refused(mine, capsys, "a.xml", "a.xml: no XML (")
    assert time.monotonic() - started < 5


def test_a_table_of_ones_own_beside_labelmes_files_changes_nothing(mine):
    """A prepared data set does, and predictions: their JSON is not labelme's."""
    write(mine.folder, "labelme")
    (mine.folder / "labels" / "landmarks.csv").write_text("mine")
    assert mine("labels") == 0
    for name in ("dataset.json", "landmarks.json"):
        (mine.folder / "labels" / name).write_text("{}")
    assert mine("labels") == 0


def test_what_macos_puts_beside_labelmes_files_is_passed_over(mine):
    """Onto disks of other systems, and into archives, as `__MACOSX/._p0.json`."""
    write(mine.folder, "labelme")
    (mine.folder / "labels" / ".bin").mkdir()
    for name in ("._p0.json", ".bin/p0.json"):
        (mine.folder / "labels" / name).write_bytes(b"\0\5\x16\7")
    assert mine("labels") == 0


def test_images_of_the_same_name_in_folders_that_mirror_labelmes(mine, capsys):
    for i, side in enumerate(("left", "right")):
        pixels = np.random.default_rng(50 + i).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
        (mine.folder / "mine" / side).mkdir()
        Image.fromarray(pixels).save(mine.folder / "mine" / side / "hand.png")
        (mine.folder / "labels" / side).mkdir(parents=True)
        document = labelme("hand", {"wrist": (10 + i, 20)})
        (mine.folder / "labels" / side / "hand.json").write_text(json.dumps(document))
    assert mine("labels") == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.ids == ("left_hand", "right_hand")
    np.testing.assert_array_equal(dataset.points[:, 0], [[10, 20], [11, 20]])
    shutil.copytree(mine.folder / "out", mine.folder / "labels" / "out")  # no annotation there
    assert mine("labels") == 0

    shutil.rmtree(mine.folder / "labels")  # or all JSON files beside each other
    (mine.folder / "labels").mkdir()
    whole = str(mine.folder / "mine" / "left" / "hand.png")
    for left in (whole, "..\\mine\\left\\hand.png"):
        for i, path in enumerate((left, "../mine/right/hand.png")):
            document = labelme("hand", {"wrist": (30 + i, 20)}) | {"imagePath": path}
            (mine.folder / "labels" / f"{i}.json").write_text(json.dumps(document))
        assert mine("labels") == 0
        dataset = prepared.read(mine.folder / "out")
        assert dataset.ids == ("left_hand", "right_hand")
        np.testing.assert_array_equal(dataset.points[:, 0], [[30, 20], [31, 20]])
    shutil.copy(mine.folder / "labels" / "1.json", mine.folder / "labels" / "2.json")
    assert mine("labels") == 1
    assert "2.json: image mine/right/hand.png again, first in " in capsys.readouterr().err


def test_several_files_of_points(mine, capsys):
    """Each of other images, and each with its own first pixel; landmarks in order of the first."""
    write_labelme(mine.folder / "labels", {"p0": TRUTH["p0"]})
    (mine.folder / "points.json").write_text(json.dumps(coco({"p1": TRUTH["p1"]})))
    x, y = TRUTH["p2"]["thumb"]
    (mine.folder / "points.csv").write_text(f"image,landmark,x,y,patient\np2,thumb,{x},{y},A\n")
    assert mine("points.csv labels points.json") == 0
    dataset = prepared.read(mine.folder / "out")
    assert dataset.landmarks == ("thumb", "wrist", "tip & nail") and len(dataset.ids) == 3
    np.testing.assert_array_equal(dataset.points, expected(dataset))
    said = capsys.readouterr().out
    assert "not used: column patient, 1 shapes of type rectangle\n" in said

    by_one = (mine.folder / "out" / "landmarks.csv").read_bytes()
    more = ["--points", *(str(mine.folder / name) for name in ("labels", "points.json"))]
    assert mine("points.csv", *more) == 0  # the option again
    assert (mine.folder / "out" / "landmarks.csv").read_bytes() == by_one
    assert mine("points.csv labels points.json", "--first-pixel", "0.5") == 0  # labelme has it
    moved = prepared.read(mine.folder / "out")
    by_id = dict(zip(moved.ids, moved.points - dataset.points, strict=True))
    assert np.nanmax(np.abs(by_id["p0"])) == 0 and np.nanmax(by_id["p1"]) == -0.5
    assert np.nanmax(by_id["p2"]) == -0.5

    assert mine("points.csv labels points.json", "--group", "patient") == 1
    said = capsys.readouterr().err
    assert "p0.json: image p0.png has no patient (and 1 more have none)" in said
    assert "or name the image in --about FILE.csv (image,patient)" in said
    assert mine("labels points.json", "--group", "patient") == 2
    said = capsys.readouterr().err
    assert "needs a CSV, of which it is a column; not" in said
    assert "by --about FILE.csv (image,patient); or folder" in said
    (mine.folder / "about.csv").write_text("image,patient,mm\np0,B,0.5\nsub/p1.png,A,0.2\n")
    told = ["--about", str(mine.folder / "about.csv")]
    assert mine("points.csv labels points.json", "--group", "patient", *told) == 0
    parts = prepared.read(mine.folder / "out").fold("dev")
    assert sorted(map(sorted, parts)) == [["p0"], ["p1", "p2"]]
    assert mine("labels points.json", "--mm-per-px", "mm", *told) == 0
    assert prepared.read(mine.folder / "out").mm_per_px.tolist() == [0.5, 0.2]
    by_folder = ["--group", "folder", "--mm-per-px", "mm", *told]
    assert mine("labels points.json", *by_folder) == 2  # which is read, and is one for all
    assert "can't split 2 images that are all of one group" in capsys.readouterr().err
    for i, name in enumerate(("Patient", "patient")):  # as --group takes them together
        table = f"image,a_x,a_y,{name}\np{2 * i},3,4,A\np{2 * i + 1},3,4,{name}\n"
        (mine.folder / f"{name}.csv").write_text(table)
    shutil.copy(mine.folder / "mine" / "sub" / "p2.png", mine.folder / "mine" / "p3.png")
    assert mine("Patient.csv patient.csv") == 0
    assert "--group Patient would keep" in capsys.readouterr().err

    write_labelme(mine.folder / "more", {"p0": TRUTH["p0"]})
    assert mine("labels more") == 1
    place = mine.folder / "labels" / "p0.json"
    assert f"p0.json: image p0.png again, first in {place}" in capsys.readouterr().err
    for name in ("p0", "p0.png"):
        (mine.folder / "points.csv").write_text(f"image,thumb_x,thumb_y\n{name},3,4\n")
        assert mine("points.csv labels") == 1
        assert "p0" in capsys.readouterr().err
    corners = {name: {"wrist": (-0.5, -0.5)} for name in ("p0", "p1")}
    write_labelme(mine.folder / "corners", corners)
    (mine.folder / "points.csv").write_text("image,thumb_x,thumb_y\np2,3,4\n")
    assert mine("points.csv corners") == 1
    assert "wrist lies at 0, 0, the corner" in capsys.readouterr().err
