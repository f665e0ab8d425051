"""Parts of an image, turned or close up, and points that move with them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks.shape_prior import on_a_plate, turned
from kerasland import (
    export,
    geometry,
    inference_models,
    localizers,
    model_files,
    models,
    phantom,
    predict,
    shape_layers,
    views,
)
from kerasland.closer_look import Place, closer, laid_onto, quarter_turned, usual_place
from kerasland.errors import DataError
from kerasland.looks import Looks

FRAME = (200, 150)
USUAL = Place(40 + 2j, 70 + 110j)


@pytest.fixture
def shape():
    return np.random.default_rng(0).normal(size=(9, 2))


def test_a_shape_is_laid_onto_points(shape):
    where = Place(-3 + 7j, 30 - 4j)
    points, weight = along(shape, where), np.ones(9)
    points[4], weight[4] = (1000, 1000), 0
    np.testing.assert_allclose(laid_onto(shape, points, weight), where)
    assert Place.by(where.numbers()) == where


def test_the_usual_place_is_the_mean_unless_there_is_none(shape):
    turns = 50 * np.exp(1j * np.radians([-4, 0, 4, 0]))
    points = np.stack([along(shape, Place(turn, 10 + 20j)) for turn in turns])
    points = np.concatenate([points, np.full((1, 9, 2), np.nan)])
    found = usual_place(shape, points)
    np.testing.assert_allclose(found, (50 * (2 + 2 * np.cos(np.radians(4))) / 4, 10 + 20j))
    other = np.stack([along(shape, Place(np.exp(1j * n), 0)) for n in range(7)])
    assert usual_place(shape, other) is None


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_are_exact(turns):
    image = np.random.default_rng(0).integers(0, 60000, (7, 5)).astype(np.uint16)
    view = quarter_turned(image.shape, turns)
    seen = view.of(image)
    np.testing.assert_array_equal(seen, np.rot90(image, turns))
    assert seen.dtype == image.dtype and seen.shape == view.shape
    x, y = view.invert(np.array([2, 1])).astype(int)
    assert seen[1, 2] == image[y, x]


@pytest.mark.parametrize("angle", [0, 9, -25, 40])
@pytest.mark.parametrize("size", [0.3, 0.6])
def test_the_subject_has_its_usual_place_in_the_part_that_is_looked_at(shape, size, angle):
    """Pixels and points go the same way there."""
    image_shape, shape = (400, 380), shape / np.abs(shape).max()
    turn = USUAL.turn * size / geometry.letterbox(image_shape, FRAME).scale
    found = Place(turn * np.exp(1j * np.radians(angle)), 190 + 200j)
    points = along(shape, found)
    view = closer(image_shape, FRAME, found, USUAL)
    for point in points:
        seen = view.of(disc(image_shape, point))
        assert seen.shape == view.shape
        np.testing.assert_allclose(view.invert(centre_of(seen)), point, atol=0.05)
    in_frame = geometry.letterbox(view.shape, FRAME).apply(view.apply(points))
    np.testing.assert_allclose(view.invert(view.apply(points)), points)
    there = laid_onto(shape, in_frame, np.ones(9))
    left = np.degrees(np.angle(there.turn / USUAL.turn))
    np.testing.assert_allclose(left, angle if abs(angle) < 10 else 0, atol=1e-6)
    np.testing.assert_allclose(abs(there.turn), abs(USUAL.turn), rtol=0.02)
    np.testing.assert_allclose(there.centre, USUAL.centre, atol=2)


@pytest.mark.parametrize("size", [0.9, 1.3])
def test_nothing_is_looked_at_again_that_is_as_usual(size):
    image_shape = (400, 380)
    turn = USUAL.turn * size / geometry.letterbox(image_shape, FRAME).scale
    for angle, usual in ((5, True), (15, False)):
        found = Place(turn * np.exp(1j * np.radians(angle)), 190 + 200j)
        assert (closer(image_shape, FRAME, found, USUAL) is None) == usual


@pytest.mark.parametrize("image_shape", [(400, 380), (310, 801), (180, 120)])
def test_in_a_graph_the_part_is_the_same(shape, image_shape):
    rng = np.random.default_rng(1)
    found, image = [], rng.integers(0, 256, image_shape).astype(np.uint8)
    for angle in (0, 8, -9, 20, -35, 90, 170):
        for size in (0.2, 0.5, 0.8, 0.9, 1.1, 0.05):
            turn = USUAL.turn * size / geometry.letterbox(image_shape, FRAME).scale
            centre = complex(*rng.uniform(0, image_shape[::-1]))
            found.append(Place(turn * np.exp(1j * np.radians(angle)), centre))
    points = np.stack([along(shape, place) for place in found]).astype("float32")
    sure = rng.uniform(0, 1, points.shape[:2]).astype("float32")
    sure[::5] = 0  # of no shape, whose points count alike
    rows, wanted = views.closer(
        points, sure, shape.astype("float32"), USUAL.numbers(), image_shape, FRAME
    )
    looked = [closer(image_shape, FRAME, place, USUAL) for place in found]
    alike = 0
    assert [view is not None for view in looked] == np.array(wanted).tolist()
    assert 10 < np.sum(wanted) < len(found)
    for row, view in zip(np.array(rows), looked, strict=True):
        if view is None:
            continue
        apart = np.abs(row[4:] - view.shape)
        if apart.any():  # half a pixel, by rounding
            assert apart.max() == 1
            continue
        alike += 1
        parts = view.turn.real, view.turn.imag, view.corner.real, view.corner.imag
        np.testing.assert_allclose(row[:4], parts, atol=1e-3)
        seen = rng.uniform(0, 100, (5, 2)).astype("float32")
        np.testing.assert_allclose(views.in_image(seen, row), view.invert(seen), atol=0.01)
        if view.turn != 1:
            picture = np.array(views.turned(image, row)).astype(float)
            assert picture.shape == view.shape
            # but for a pixel on the image's edge, and a grey value by rounding
            assert (np.abs(picture - view.of(image)) > 1).mean() < 1e-3
    assert alike > 10


def test_in_a_graph_quarter_turns_are_the_same():
    rows = np.array(views.quarter_turned((7, 5)))
    for turns in (1, 2, 3):
        view = quarter_turned((7, 5), turns)
        parts = view.turn.real, view.turn.imag, view.corner.real, view.corner.imag
        np.testing.assert_array_equal(rows[turns - 1], (*parts, *view.shape))


def test_a_view_ends_where_the_image_does(shape):
    """At a corner of it; and there is none of a subject that is hardly there."""
    found = Place(USUAL.turn / 2, 20 + 300j)
    view = closer((310, 800), FRAME, found, USUAL)
    assert view.corner.real == 0 and view.corner.imag + view.shape[0] == 310
    assert closer((310, 800), FRAME, Place(USUAL.turn / 50, 20 + 300j), USUAL) is None
    assert closer((310, 800), FRAME, Place(complex("nan"), 20 + 300j), USUAL) is None


def test_a_turned_view_ends_where_the_frame_or_the_image_does():
    """On each side where the first of them ends, which near a corner of the image is the image."""
    image_shape, unit, shorter = (400, 380), np.array([[0, 0], [1, 0], [0, 1], [1, 1]]), []
    turn = USUAL.turn * 0.3 / geometry.letterbox(image_shape, FRAME).scale
    for angle in (35, -130):
        for corner in unit:
            found = Place(turn * np.exp(1j * np.radians(angle)), corner @ (380, 400j))
            view = closer(image_shape, FRAME, found, USUAL)
            seen = (unit * FRAME[::-1] - 0.5) @ (1, 1j)
            frame = found.turn * (seen - USUAL.centre) / USUAL.turn + found.centre
            frame = view.apply(np.stack([frame.real, frame.imag], axis=-1)) + 0.5
            image = view.apply(unit * image_shape[::-1] - 0.5) + 0.5
            first = np.maximum(frame.min(axis=0), image.min(axis=0))
            last = np.minimum(frame.max(axis=0), image.max(axis=0))
            np.testing.assert_allclose([first, last], [(0, 0), view.shape[::-1]], atol=1)
            shorter.append([first - frame.min(axis=0), frame.max(axis=0) - last])
    assert np.min(np.max(shorter, axis=0)) > 20  # pixels, each of the four sides somewhere


def test_deep_images_stay_deep():
    """What is beside the image is as dark as the darkest of it, also of 12 bits at the upper end
    of 16."""
    image = np.full((90, 80), 50000, np.uint16)
    found = Place(USUAL.turn / 4 * np.exp(1j), 40 + 45j)
    view = closer(image.shape, FRAME, found, USUAL)
    assert (view.of(image) == 50000).all() and view.of(image).dtype == np.uint16


@pytest.fixture(scope="module")
def model():
    return model_files.load_pretrained()


@pytest.mark.parametrize("side", ["left", "right", "auto"])
def test_a_hand_is_found_however_it_lies(model, side):
    """A drawn one; in a batch with one that fills its picture, which is looked at once."""
    image, truth = phantom.hand(4, shape=(500, 380))
    small = on_a_plate(image, truth, 2.2, image.min())
    pictures = [(image, truth), small, turned(image, truth, 30), turned(image, truth, 180)]
    pictures += [turned(*small, 100)]
    if side != "left":
        pictures = [
            (picture[:, ::-1], geometry.mirrored(points, picture.shape[1]))
            for picture, points in pictures
        ]
    shape, wrist_px, asked = model.input_shape[1:3], np.linalg.norm(truth[0] - truth[4]), []

    def image_of(i):
        asked.append(i)
        return pictures[i][0]

    frames = np.stack([localizers.in_frame(p, shape, side) for p, _ in pictures])
    locate = localizers.batch_localizer(model, side)
    found, confidence, sides = locate(frames, [p.shape for p, _ in pictures], image_of)
    assert confidence.any(axis=1).all() and set(sides) == {"left" if side == "left" else "right"}
    assert len(asked) == len(set(asked))  # each file is read once
    assert side == "auto" or set(asked) == {1, 2, 3, 4}
    for (picture, points), there in zip(pictures, found, strict=True):
        error = 50 / wrist_px * np.linalg.norm(there - points, axis=1).mean()
        assert error < 2, (picture.shape, error)
        alone, _ = localizers.localizer(model, side)(picture)
        np.testing.assert_allclose(alone, there, atol=0.05)


def test_the_first_look_holds_where_the_second_finds_nothing(model, monkeypatch):
    image, truth = on_a_plate(*phantom.hand(3, shape=(300, 230)), 2.0, 0)
    before, _ = localizers.localizer(without_place(model))(image)
    found, _ = localizers.localizer(model)(image)
    assert np.abs(before - found).max() > 0.2
    blind = inference_models.bare(model)  # a copy whose every second look sees nothing
    monkeypatch.setattr("kerasland.closer_look.View.of", lambda view, image: image[:40, :40])
    again, confidence = localizers.localizer(blind)(image)
    np.testing.assert_allclose(again, before, atol=1e-3)
    assert confidence.any()


@pytest.mark.parametrize(
    ("first_zeros", "zeros", "counts"),
    [(37, 3, True), (37, 4, False), (1, 3, True), (1, 4, False), (5, 5, True), (5, 6, False)],
)
def test_a_further_look_counts_where_few_points_are_moved(
    model, monkeypatch, first_zeros, zeros, counts
):
    """Half as many of 37 as the prior may move, or as many as before."""
    truth = phantom.hand(4, shape=(500, 380))[1]
    fit = geometry.letterbox((1000, 760), model.input_shape[1:3])
    first, looks = fit.apply(truth), []

    def locate(frames):
        looks.append(len(frames))
        confidence = np.ones((1, 37), np.float32)
        confidence[:, : zeros if len(looks) > 1 else first_zeros] = 0
        confidence[confidence > 0] = 0.5 if len(looks) > 1 else 1
        return first[None], confidence

    monkeypatch.setattr(localizers, "frame_localizer", lambda _: locate)
    image = np.zeros((1000, 760), np.uint8)
    _, confidence = localizers.localizer(model)(image)  # of no shape, or of one that is small
    assert len(looks) > 1 and (confidence == 0).sum() == (zeros if counts else first_zeros)
    assert (0.5 in confidence) == counts


def test_a_mirrored_look_may_move_as_many_points_as_the_first(model, monkeypatch):
    frame_shape = model.input_shape[1:3]
    points = geometry.letterbox((500, 380), frame_shape).apply(phantom.hand(4, (500, 380))[1])
    confidence = [np.zeros((1, 37)), np.concatenate([np.zeros((1, 6)), np.ones((1, 31))], axis=1)]
    script = iter(confidence)
    monkeypatch.setattr(
        localizers, "frame_localizer", lambda _: lambda frames: (points[None], next(script))
    )
    locate, image = localizers.batch_localizer(model, "auto"), np.zeros((500, 380), np.uint8)
    frame = localizers.in_frame(image, frame_shape)
    _, found, sides = locate(frame[None], [image.shape], lambda _: image)
    assert (found == 0).sum() == 6 and sides == ["right"]


class Scripted:
    """A network that finds, look after look, what it is told."""

    def __init__(self, model, script):
        self.input_shape, self.get_layer = model.input_shape, model.get_layer
        self.script, self.frames = iter(script), []

    def __call__(self, frames, training=False):
        self.frames.append(np.array(frames)[0, ..., 0])
        points, confidence = next(self.script)
        return {
            "landmarks": tf.constant(points[None], tf.float32),
            "confidence": tf.constant(confidence[None], tf.float32),
        }


@pytest.mark.parametrize("whole", [True, False], ids=["place", "no place"])
def test_a_graph_looks_where_predict_looks(model, monkeypatch, whole):
    """Whatever is found in each look: the same views, and what counts of them."""
    model = model if whole else without_place(model)
    prior = model_files.load_pretrained().get_layer("shape_prior")
    usual, mean = Place.by(prior.place), np.asarray(prior.mean)
    rng, looks = np.random.default_rng(2), []

    def of_a_look():
        turn = usual.turn * rng.choice([0.4, 0.8, 1]) * np.exp(1j * rng.choice([0, 0.1, 0.5, 3]))
        points = along(mean, Place(turn, usual.centre + rng.normal(0, 40)))
        confidence = rng.uniform(0.5, 1, 37)
        confidence[: rng.choice([0, 0, 2, 3, 4, 37, 37])] = 0
        return points + rng.normal(0, 1, (37, 2)), confidence

    image = phantom.hand(4, (300, 200))[0]
    for _ in range(40):
        script = [of_a_look() for _ in range(6)]
        asked, told = [], iter(script)

        def locate(frames, asked=asked, told=told):
            asked.append(frames[0])
            return tuple(part[None].copy() for part in next(told))

        monkeypatch.setattr(localizers, "frame_localizer", lambda _, locate=locate: locate)
        points, confidence = localizers.localizer(model)(image)
        network = Scripted(model, script)
        layer = Looks.__new__(Looks)
        keras.layers.Layer.__init__(layer)
        layer.network, layer.prior = network, "shape_prior"
        layer.frame_shape = model.input_shape[1:3]
        found, sure = layer.call(tf.constant(image[None, ..., None]))
        # a view may end a pixel further
        np.testing.assert_allclose(found[0], points, atol=0.3)
        np.testing.assert_allclose(sure[0], confidence, atol=1e-6)
        assert len(network.frames) == len(asked)
        for frame, other in zip(network.frames, asked, strict=True):
            assert np.abs(frame - other).mean() < 1
        looks.append(len(asked))
    assert set(looks) >= ({1, 2, 3, 5, 6} if whole else {1, 2, 4})


@pytest.fixture(scope="module")
def in_a_graph(model):
    whole = inference_models.pipeline(model, "uint8")
    return export.frozen(whole, export.raw_image(whole))


def lying():
    """Drawn hands: as usual, small, turned, and no left hand."""
    image, truth = phantom.hand(4, shape=(500, 380))
    small = on_a_plate(image, truth, 2.2, image.min())
    return {
        "as usual": image,
        "small": small[0],
        "by 35": turned(image, truth, 35)[0],
        "by 60": turned(image, truth, 60)[0],
        "on its side": np.rot90(image),
        "on its other side": np.rot90(image, 3),
        "upside down": np.rot90(image, 2),
        "small, by 100": turned(*small, 100)[0],
        "mirrored": image[:, ::-1],
    }


@pytest.mark.parametrize("how", lying())
def test_a_graph_finds_a_hand_however_it_lies(model, in_a_graph, how):
    image = lying()[how]
    points, confidence = localizers.localizer(model)(image)
    found = in_a_graph(tf.constant(image[None, ..., None]))
    assert confidence.any() == (how != "mirrored")
    np.testing.assert_allclose(found["landmarks"][0], points, atol=0.1)
    np.testing.assert_allclose(found["confidence"][0], confidence, atol=2e-3)
    assert np.isnan(found["error_mm"][0]).all() == (how == "mirrored")


def test_a_graph_looks_again_at_those_of_a_batch_that_need_it(model, in_a_graph):
    image, _ = phantom.hand(4, shape=(500, 380))
    batch = np.stack([image, image[::-1, ::-1], image[:, ::-1], image])
    found = in_a_graph(tf.constant(batch[..., None]))
    for i, picture in enumerate(batch):
        points, confidence = localizers.localizer(model)(picture)
        np.testing.assert_allclose(found["landmarks"][i], points, atol=0.1)
        np.testing.assert_allclose(found["confidence"][i], confidence, atol=2e-3)
    assert np.any(found["confidence"], axis=1).tolist() == [True, True, False, True]


def test_of_a_huge_turned_view_a_graph_takes_every_other_pixel(model, monkeypatch):
    """Which bounds its memory, and hardly moves what is found."""
    image = turned(*phantom.hand(4, (1500, 1140)), 35)[0]
    points, _ = localizers.localizer(model)(image)
    monkeypatch.setattr(views, "MOST_PX", 1000)
    whole, made, turned_view = inference_models.pipeline(model, "uint8"), [], views.turned

    def spied(*args):
        made.append(turned_view(*args))
        return made[-1]

    monkeypatch.setattr(views, "turned", spied)
    found = whole(image[None, ..., None])
    assert [400_000 < np.prod(picture.shape) < 1_000_000 for picture in made] == [True]
    apart = np.linalg.norm(found["landmarks"][0] - points, axis=1)
    assert 0 < np.median(apart) < 0.3 and apart.max() < 3


def test_keras_runs_a_pipeline_without_xla(model):
    """`predict` of Keras would compile what has no shapes of its own."""
    image = lying()["upside down"][None, ..., None]
    found = inference_models.pipeline(model).predict(image, verbose=0)
    assert found["confidence"].all()


def test_a_pipeline_saved_and_loaded_looks_again(model, tmp_path):
    image = lying()["upside down"][None, ..., None]
    whole = inference_models.pipeline(model)
    whole.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras")
    wanted, found = whole(image), again(image)
    assert set(found) == set(wanted) and np.all(wanted["confidence"] > 0)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-3)


def test_an_image_that_is_gone_is_looked_at_once(model, tmp_path, monkeypatch, capsys):
    path = tmp_path / "small.png"
    Image.fromarray(on_a_plate(*phantom.hand(4, shape=(300, 230)), 2.0, 0)[0]).save(path)
    read, calls = predict.read_image, []

    def once(path):
        calls.append(path)
        if len(calls) > 1:
            raise DataError(f"{path}: gone")
        return read(path)

    monkeypatch.setattr(predict, "read_image", once)
    table = predict.predict([path], model, tmp_path / "out")
    assert len(calls) == 2 and table["confidence"].all()
    assert f"looked at once: {path}: gone" in capsys.readouterr().err


def test_a_layer_of_before_knows_no_place():
    config = shape_layers.ShapePrior(place=(1.0, 0.0, 2.0, 3.0)).get_config()
    assert shape_layers.ShapePrior.from_config(config).place == (1.0, 0.0, 2.0, 3.0)
    del config["place"]
    assert shape_layers.ShapePrior.from_config(config).place is None


def without_place(model):
    copy = model_files.load_pretrained()
    copy.get_layer("shape_prior").place = None
    return copy


def test_a_model_that_knows_no_shapes_looks_once():
    model, asked = models.unet(5, (64, 48), width=4, depth=2), []
    locate = localizers.batch_localizer(model)
    points, _, sides = locate(np.zeros((2, 64, 48), np.float32), [(50, 40), (90, 90)], asked.append)
    assert not asked and sides == ["left", "left"] and points.shape == (2, 5, 2)


def disc(image_shape, centre, radius=3.0):
    y, x = np.mgrid[: image_shape[0], : image_shape[1]]
    distance = np.hypot(x - centre[0], y - centre[1])
    return (255 * np.clip(radius + 0.5 - distance, 0, 1)).astype(np.uint8)


def centre_of(picture):
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([np.average(at, weights=picture) for at in (x, y)])


def along(shape, where):
    return pairs(where.turn * (shape @ (1, 1j)) + where.centre)


def pairs(numbers):
    return np.stack([numbers.real, numbers.imag], axis=-1)
