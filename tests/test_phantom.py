"""The drawn radiographs: repeatable, true to the shape model, bone where the landmarks are."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import hand_shape
from kerasland import phantom

REPO = Path(__file__).resolve().parents[1]
SHAPE = (1400, 1000)
SMALL_SHAPE = (140, 100)
FINGER_LANDMARKS = slice(13, 37)
SHIFT_PX = 40
DISC_RADIUS_PX = 12


@pytest.fixture(scope="module")
def hands() -> list[tuple[np.ndarray, np.ndarray]]:
    return [phantom.hand(seed, SHAPE) for seed in range(6)]


@pytest.fixture(scope="module")
def model() -> dict:
    return json.loads(phantom.SHAPE_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small_points() -> np.ndarray:
    return np.stack([phantom.hand(seed, SMALL_SHAPE)[1] for seed in range(200)])


@pytest.fixture(scope="module")
def atlas() -> Path:
    folder = REPO.parent / "shared" / "data" / "hand_atlas"
    if not (folder / "all.csv").is_file() or not (folder / "images").is_dir():
        pytest.skip("the hand atlas is not here")
    return folder


def digest(picture: np.ndarray, points: np.ndarray) -> str:
    return hashlib.sha256(picture.tobytes() + points.tobytes()).hexdigest()


def disc_means(picture: np.ndarray, points: np.ndarray, radius_px: int) -> np.ndarray:
    """Mean grey of the disc around each point; discs over the border are cut."""
    y, x = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    inside = x**2 + y**2 <= radius_px**2
    columns = np.round(points[:, :1]).astype(int) + x[inside]
    rows = np.round(points[:, 1:]).astype(int) + y[inside]
    height, width = picture.shape
    seen = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    grey = picture[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return np.ma.masked_array(grey, ~seen).mean(axis=1).filled(0)


def test_names_are_37_and_unique():
    assert len(set(phantom.LANDMARK_NAMES)) == len(phantom.LANDMARK_NAMES) == 37
    assert phantom.LANDMARK_NAMES[17] == "thumb_metacarpal_base"
    assert phantom.LANDMARK_NAMES[36] == "little_tip"


def test_names_are_the_shape_files(model):
    assert tuple(model["landmarks"]) == phantom.LANDMARK_NAMES


@pytest.mark.parametrize("shape", [SHAPE, (350, 250), (300, 400), (64, 64)])
def test_picture_and_points_have_the_promised_form(shape):
    picture, points = phantom.hand(3, shape)
    assert picture.shape == shape and picture.dtype == np.uint8
    assert points.shape == (37, 2) and points.dtype == np.float64
    assert np.ptp(picture) > 100


def test_same_seed_gives_the_same_bytes(hands):
    assert digest(*phantom.hand(1, SHAPE)) == digest(*hands[1])


def test_fresh_process_gives_the_same_bytes_without_tensorflow(hands):
    code = (
        "import hashlib, sys; from kerasland import phantom; "
        f"picture, points = phantom.hand(1, {SHAPE}); "
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules; "
        "print(hashlib.sha256(picture.tobytes() + points.tobytes()).hexdigest())"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert fresh.stdout.strip() == digest(*hands[1])


def test_seeds_differ(hands):
    assert len({digest(*drawn) for drawn in hands}) == len(hands)
    assert len({drawn[1].tobytes() for drawn in hands}) == len(hands)


@pytest.mark.parametrize(("seed", "shape"), [(-1, SHAPE), (0, (63, 500)), (0, (500, 0))])
def test_bad_arguments_are_refused(seed, shape):
    with pytest.raises(ValueError):
        phantom.hand(seed, shape)


def test_landmarks_lie_inside(hands, small_points):
    points = np.stack([points for _, points in hands])
    assert points.min() >= 5
    assert (points <= np.array(SHAPE[::-1]) - 6).all()
    assert small_points.min() >= 0.5
    assert (small_points <= np.array(SMALL_SHAPE[::-1]) - 1.5).all()


def test_hand_stands_as_in_the_atlas(small_points):
    name = phantom.LANDMARK_NAMES.index
    assert (small_points[:, name("thumb_tip"), 0] > small_points[:, name("little_tip"), 0]).all()
    assert (small_points[:, name("middle_tip"), 1] < small_points[:, name("middle_mcp"), 1]).all()
    wrist_px = np.linalg.norm(small_points[:, 4] - small_points[:, 0], axis=1)
    assert wrist_px.min() > 0.05 * SMALL_SHAPE[1]


def test_drawn_shapes_follow_the_model(small_points, model):
    aligned, mean, _ = hand_shape.align(small_points)
    truth = np.array(model["mean"])
    turn = np.angle(np.vdot(truth @ [1, 1j], mean @ [1, 1j]))
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose(mean @ back.T, truth, atol=0.03)
    first = (aligned @ back.T - truth).reshape(len(aligned), -1) @ np.ravel(model["modes"][0])
    assert first.std() == pytest.approx(model["sd"][0], rel=0.2)


def test_points_shifted_sideways_leave_the_bone(hands):
    for picture, points in hands:
        on_bone = disc_means(picture, points[FINGER_LANDMARKS], DISC_RADIUS_PX).mean()
        for shift_px in (-SHIFT_PX, SHIFT_PX):
            shifted = points[FINGER_LANDMARKS] + (shift_px, 0)
            assert on_bone > disc_means(picture, shifted, DISC_RADIUS_PX).mean() + 5


def test_points_shifted_along_the_fingers_leave_the_joints(hands):
    along_px = np.arange(-60, 61)
    offsets_px = []
    for picture, points in hands:
        for before, joint in [(21, 22), (22, 23), (25, 26), (26, 27), (29, 30), (30, 31)]:
            axis = points[joint] - points[before]
            axis /= np.linalg.norm(axis)
            line = points[joint] + along_px[:, None] * axis
            offsets_px.append(along_px[disc_means(picture, line, 3).argmin()])
    assert abs(np.median(offsets_px)) < SHIFT_PX / 2


def test_tips_end_the_bone(hands):
    tips, before = [20, 24, 28, 32, 36], [19, 23, 27, 31, 35]
    for picture, points in hands:
        axis = points[tips] - points[before]
        axis *= DISC_RADIUS_PX / np.linalg.norm(axis, axis=1, keepdims=True)
        inside = disc_means(picture, points[tips] - axis, 4).mean()
        assert inside > disc_means(picture, points[tips] + axis, 4).mean() + 10


def test_bone_is_brighter_than_tissue_and_tissue_than_background(hands):
    for picture, points in hands:
        third_metacarpal_px = np.linalg.norm(points[15] - points[25])
        joint = points[[22, 26, 30]]
        along = points[[23, 27, 31]] - joint
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        middle = joint + along * 0.2 * third_metacarpal_px
        sideways = np.stack([-along[:, 1], along[:, 0]], axis=1) * 0.095 * third_metacarpal_px
        beyond = points[[24, 28, 32]] + sideways * 2.5
        bone = disc_means(picture, middle, 4).mean()
        tissue = disc_means(picture, np.concatenate([middle + sideways, middle - sideways]), 4)
        assert bone > tissue.mean() + 15
        assert tissue.mean() > np.median(disc_means(picture, beyond, 4)) + 3


def test_shape_file_follows_from_the_atlas(atlas, model):
    derived = json.loads(
        json.dumps(hand_shape.derive(atlas / "all.csv", atlas / "images"), allow_nan=False)
    )
    for name in ("mean", "sd", "modes"):
        np.testing.assert_allclose(derived.pop(name), model[name], atol=1.01e-4)
    rest = {name: value for name, value in model.items() if name in derived}
    assert derived == rest and model.keys() - rest.keys() == {"mean", "sd", "modes"}


def test_how_hands_lie_is_measured_in_pictures_turned_as_their_files_say(tmp_path):
    exif = Image.Exif()
    for name, exif[0x0112] in (("a", 1), ("b", 6)):
        size = (120, 80) if name == "a" else (80, 120)
        Image.new("L", size).save(tmp_path / f"{name}.jpg", exif=exif)
    box = np.array([[12.0, 8], [72, 48]])
    frame = hand_shape.frame_of_pictures({"a": box, "b": box}, tmp_path)
    expected = {"fill": 0.5, "left": 0.2, "top": 0.2}
    for name, values in frame.items():
        np.testing.assert_allclose(values, expected[name])


def test_shape_file_is_small_and_names_no_place(model):
    text = phantom.SHAPE_FILE.read_text(encoding="utf-8")
    assert len(text) < 60_000
    assert " /" not in model["command"] and ".." not in model["command"]


def test_command_writes_a_model_and_reports_errors_in_one_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [",".join([str(i), *map(str, rng.uniform(0, 100, 74).round(2))]) for i in range(3)]
    landmarks, out = tmp_path / "points.csv", tmp_path / "shape.json"
    landmarks.write_text("\n".join(rows))
    for i in range(2):
        Image.new("L", (120, 120)).save(tmp_path / f"{i}.jpg")
    arguments = ["--landmarks", landmarks, "--images", tmp_path, "--out", out]
    arguments = [str(argument) for argument in arguments]
    assert hand_shape.main(arguments) == 0
    assert json.loads(out.read_text())["rows"] == 3
    assert [path.name for path in tmp_path.glob("*.json*")] == ["shape.json"]
    landmarks.write_text("\n".join([*rows, "4,1,2"]))
    assert hand_shape.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "line 4" in error
