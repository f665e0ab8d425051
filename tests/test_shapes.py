"""Points that all others contradict: found where they should be, and only those."""

import keras
import numpy as np
import pytest

from kerasland import (
    geometry,
    inference_models,
    layers,
    model_files,
    model_notes,
    models,
    phantom,
    shape_layers,
    shape_posterior,
    shapes,
    synthetic,
    train,
)
from kerasland.experiment import Experiment

K = len(phantom.LANDMARK_NAMES)
TIP, JOINT = phantom.LANDMARK_NAMES.index("little_tip"), phantom.LANDMARK_NAMES.index("little_dip")


@pytest.fixture(scope="module")
def hands():
    return np.stack([phantom.hand(seed, shape=(140, 100))[1] for seed in range(80)])


@pytest.fixture(scope="module")
def prior(hands):
    layer = shape_layers.ShapePrior()
    layer.build((None, K, 2), (None, K))
    layer.set_weights(shapes.fit(hands[:60]))
    return layer


def by_conditioning(known, points, sure, k):
    """Where point k should be: NumPy's own Procrustes, and the Gaussian's conditional mean."""
    weight = sure / sure.sum()
    centre, middle = weight @ points, weight @ known.mean
    a, b = points - centre, known.mean - middle
    u, _, vt = np.linalg.svd((weight[:, None] * a).T @ b)
    flip = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    size = (weight[:, None] * b**2).sum() / (weight[:, None] * (a @ rotation) * b).sum()
    laid = size * a @ rotation + middle
    covariance = np.linalg.inv(known.precision)
    own, rest = [2 * k, 2 * k + 1], [i for i in range(2 * K) if i not in (2 * k, 2 * k + 1)]
    offset = (laid - known.mean).ravel()[rest]
    gain = covariance[np.ix_(own, rest)] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
    return (known.mean[k] + gain @ offset - middle) @ rotation.T / size + centre


def test_a_wrong_point_is_put_where_the_others_say(hands, prior):
    known = shapes.fit(hands[:60])
    for hand in hands[60:]:
        points, sure = hand.copy(), np.ones(K)
        points[TIP] += (25, 40)
        sure[TIP] = 0.0
        found, confidence = (np.array(output)[0] for output in prior(points[None], sure[None]))
        moved = np.abs(found - points).max(axis=1) > 1e-3  # single precision
        assert moved.tolist() == [k == TIP for k in range(K)]
        np.testing.assert_array_equal(confidence, np.where(moved, 0, sure).astype("float32"))
        again = found.astype("float64")
        np.testing.assert_allclose(found[TIP], by_conditioning(known, again, sure, TIP), atol=0.1)
        assert np.linalg.norm(found[TIP] - hand[TIP]) < 12


def test_two_wrong_neighbours_do_not_accuse_a_third(hands, prior):
    hand = hands[70]
    points, sure = hand.copy(), np.ones(K)
    points[[TIP, JOINT]] += [(25, 40), (-30, 15)]
    sure[[TIP, JOINT]] = 0.2
    found = np.array(prior(points[None], sure[None])[0])[0]
    before, after = (np.linalg.norm(p - hand, axis=1) for p in (points, found))
    assert (after[[TIP, JOINT]] < 0.5 * before[[TIP, JOINT]]).all()
    assert np.delete(after, [TIP, JOINT]).max() < 1e-4  # single precision


def test_a_finger_found_on_its_neighbour_comes_back(hands, prior):
    """Two points that agree with each other, of full confidence, and lie a finger further on."""
    middle = [phantom.LANDMARK_NAMES.index(f"middle_{part}") for part in ("dip", "tip")]
    ring = [phantom.LANDMARK_NAMES.index(f"ring_{part}") for part in ("dip", "tip")]
    wrong, sure = hands[60:].copy(), np.ones((len(hands[60:]), K))
    wrong[:, middle] = wrong[:, ring]
    found = np.array(prior(wrong, sure)[0])
    before, after = (np.linalg.norm(p - hands[60:], axis=2) for p in (wrong, found))
    assert after[:, middle].mean() < 0.5 * before[:, middle].mean()
    assert (np.delete(after, middle, axis=1) > 1e-4).mean() < 0.02  # single precision


@pytest.mark.parametrize(
    "pair", [("little", "ring"), ("ring", "little"), ("index", "middle"), ("middle", "index")]
)
def test_a_whole_finger_on_its_neighbour_is_not_believed_but_the_neighbour(hands, prior, pair):
    """As where a finger is cut off: its heatmaps are sure of the joints beside it."""
    lost, there = (
        [phantom.LANDMARK_NAMES.index(f"{finger}_{part}") for part in ("pip", "dip", "tip")]
        for finger in pair
    )
    wrong, sure = hands[60:].copy(), np.ones((len(hands[60:]), K))
    wrong[:, lost] = wrong[:, there] + 0.3
    found, confidence = map(np.array, prior(wrong, sure))
    assert not confidence[:, lost].any() and (confidence[:, there] == 1).all()
    assert (np.delete(confidence, lost + there, axis=1) == 1).mean() > 0.98
    before, after = (np.linalg.norm(p - hands[60:], axis=2) for p in (wrong, found))
    assert after[:, lost].mean() < 0.65 * before[:, lost].mean()
    assert after[:, there].max() < 1e-4  # single precision


def test_of_two_on_one_spot_that_the_others_can_not_tell_neither_is_believed():
    """Landmarks in a row with gaps of 4, of which any may be up to 2 off."""
    rng = np.random.default_rng(0)
    rows = np.stack([4.0 * np.arange(12), np.zeros(12)], axis=-1) + rng.uniform(
        -1.5, 1.5, (400, 12, 2)
    )
    known = shapes.fit(rows)
    prior = shape_layers.ShapePrior()
    prior.build((None, 12, 2), (None, 12))
    prior.set_weights(known)
    points, sure = 4.0 * np.stack([np.arange(12), np.zeros(12)], axis=-1), np.ones((1, 12))
    points[6] = points[5] = (22, 0)  # each 2 off
    _, confidence = prior(points[None], sure)
    np.testing.assert_array_equal(np.array(confidence)[0] == 0, np.isin(np.arange(12), (5, 6)))
    # as without knowing how far apart they are at least
    prior.set_weights([*known[:2], np.zeros((12, 12))])
    np.testing.assert_array_equal(prior(points[None], sure)[1], sure)


def test_how_far_apart_landmarks_are_at_least(hands):
    known, laid = shapes.fit(hands[:60]), []
    for hand in hands[:60]:
        a, b = hand - hand.mean(axis=0), known.mean - known.mean.mean(axis=0)
        u, stretch, vt = np.linalg.svd(a.T @ b)
        laid.append(stretch.sum() / (a**2).sum() * a @ u @ vt)
    apart = [np.linalg.norm(hand[:, None] - hand, axis=-1) for hand in laid]
    np.testing.assert_allclose(known.apart, np.min(apart, axis=0), rtol=1e-2, atol=1e-9)


def test_files_that_do_not_know_how_far_apart_landmarks_are(hands, prior, tmp_path):
    points, sure = keras.Input((K, 2)), keras.Input((K,))
    layer = shape_layers.ShapePrior()
    model = keras.Model([points, sure], layer([points, sure][0], sure))
    layer.set_weights(prior.get_weights())
    model.save(tmp_path / "new.keras")
    old, drop = tmp_path / "old.keras", layer._non_trainable_variables.pop()
    model.save(old)
    layer._non_trainable_variables.append(drop)
    for path, apart in ((tmp_path / "new.keras", prior.apart), (old, np.zeros((K, K)))):
        read = keras.saving.load_model(path).layers[-1].get_weights()
        for found, wanted in zip(read, (prior.mean, prior.precision, apart), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_it_takes_twice_as_much_to_move_a_point_that_is_sure(hands, prior):
    steps = np.arange(0, 60, 0.25)
    wrong = np.repeat(hands[60:61], len(steps), axis=0)
    wrong[:, TIP] += steps[:, None] * (0.53, 0.85)
    first = {}
    for confidence in (0.49, 0.51):
        found = np.array(prior(wrong, np.full((len(steps), K), confidence))[0])
        moved = np.abs(found - wrong).max(axis=2) > 1e-3
        assert not np.delete(moved, TIP, axis=1).any()
        first[confidence] = steps[moved[:, TIP]].min()
        assert moved[steps >= first[confidence], TIP].all()
    assert 1.7 < first[0.51] / first[0.49] < 2.3


def test_what_is_plausible_stays(hands, prior):
    plain = hands[60:].astype("float32")
    sure = np.resize([0.3, 0.9], (len(plain), K)).astype("float32")
    found, confidence = map(np.array, prior(plain, sure))
    moved = (found != plain).any(axis=2)
    assert moved.mean() < 0.01
    np.testing.assert_array_equal(confidence == 0, moved)


def test_it_computes_in_single_precision_whatever_floatx_is(hands, prior):
    inputs = hands[60:62], np.ones((2, K))
    wanted = prior(*inputs)
    keras.config.set_floatx("float64")
    try:
        found = prior(*inputs)
    finally:
        keras.config.set_floatx("float32")
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_others_in_the_batch_do_not_matter(hands, prior):
    points, sure = hands[60:].copy(), np.ones((20, K))
    points[::2, TIP] += (25, 40)
    points[1::4, JOINT] += (-30, 15)
    sure[::4, [TIP, JOINT]] = 0.3
    together = prior(points, sure)
    for i in range(len(points)):
        alone = prior(points[i : i + 1], sure[i : i + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[i], atol=1e-4)


@pytest.mark.parametrize(("landmarks", "wrong"), [(10, 2), (120, 20)])
def test_so_many_of_so_many_are_corrected_and_no_more(landmarks, wrong):
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, landmarks, endpoint=False)
    ring = 50 * np.stack([np.cos(angles), np.sin(angles)], axis=-1) + (80, 80)
    ring = ring + rng.normal(0, 0.2, (160, landmarks, 2))
    prior = shape_layers.ShapePrior()
    prior.build((None, landmarks, 2), (None, landmarks))
    prior.set_weights(shapes.fit(ring[1:]))
    for moved, agreed in ((wrong, True), (wrong + 1, False)):
        points = ring[:1].copy()
        which = np.round(np.linspace(0, landmarks, moved, endpoint=False)).astype(int)
        points[0, which] += rng.uniform(15, 25, (moved, 2)) * rng.choice([-1, 1], (moved, 2))
        found, confidence = prior(points, np.ones((1, landmarks)))
        changed = np.abs(np.array(found) - points).max(axis=2)[0] > 1e-3
        assert changed.sum() == (wrong if agreed else 0)
        if agreed:
            assert changed[which].all() and np.abs(np.array(found) - ring[:1]).max() < 3
        np.testing.assert_array_equal(np.array(confidence)[0] == 0, changed | (not agreed))


def test_of_what_is_no_such_shape_nothing_is_said(hands, prior):
    """Points anywhere, a right hand's, and those of noise."""
    rng = np.random.default_rng(0)
    anywhere = rng.uniform(0, 100, (20, K, 2))
    for points in (anywhere, hands[60:] * (-1, 1)):
        points = points.astype("float32")
        for low, high in ((0, 0.4), (0, 1), (0.9, 1)):
            sure = rng.uniform(low, high, (20, K)).astype("float32")
            found, confidence = prior(points, sure)
            np.testing.assert_array_equal(found, points)
            assert not np.array(confidence).any()
    model = model_files.load_pretrained()
    noise = rng.uniform(0, 255, (1, *model.input_shape[1:])).astype("float32")
    decoder = keras.Model(model.inputs[0], model.get_layer("decoder").output)
    found = model(noise)
    np.testing.assert_array_equal(found["landmarks"], decoder(noise)[0])
    assert not np.array(found["confidence"]).any()


def test_the_frame_does_not_matter(hands, prior):
    """Turned, scaled and shifted points are corrected to the same place of the hand."""
    points, sure = hands[65].copy(), np.ones((1, K))
    points[TIP] += (25, 40)
    sure[0, TIP] = 0.1
    turn = 2.5 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    here = np.array(prior(points[None], sure)[0])[0]
    there = np.array(prior((points @ turn + (300, 90))[None], sure)[0])[0]
    np.testing.assert_allclose(there, here @ turn + (300, 90), atol=0.05)


def ellipses(rng, count, landmarks=24):
    """Points at equal angles along ellipses of any position, size and direction."""
    angle = 2 * np.pi * np.arange(landmarks) / landmarks
    radii = rng.uniform((14, 9), (18, 13), (count, 2))
    turn = np.exp(1j * rng.uniform(-0.3, 0.3, (count, 1)))
    shape = radii[:, :1] * np.cos(angle) + 1j * radii[:, 1:] * np.sin(angle)
    shape = shape * turn + rng.uniform(28, 36, (count, 1)) * (1 + 1j)
    return np.stack([shape.real, shape.imag], axis=-1)


def sliding(rng, points, size=64, sigma_px=2.0, slide_px=4.0):
    """Logits (N, size, size, K) as along contours: each peak off along it, and spread as widely."""
    ahead = np.roll(points, -1, axis=1) - np.roll(points, 1, axis=1)
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    peaks = points + ahead * rng.normal(0, slide_px, points.shape[:2])[..., None]
    y, x = np.indices((size, size))
    apart = np.stack([x, y], axis=-1)[:, :, None] - peaks[:, None, None]
    along = (apart * ahead[:, None, None]).sum(axis=-1)
    across = np.linalg.norm(apart, axis=-1) ** 2 - along**2
    return -(along**2 / (sigma_px**2 + slide_px**2) + across / sigma_px**2) / 2


def by_solving(known, points, covariance):
    """The posterior's mean with NumPy: Procrustes by SVD, and the equations solved."""
    centre = points.mean(axis=0)
    seen, size = points - centre, len(points) * 2
    u, stretch, vt = np.linalg.svd(seen.T @ known.mean)
    flip = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    forth = (np.diag(stretch) @ flip).trace() / (seen**2).sum() * (u @ flip @ vt)
    noise = np.zeros((size, size))
    for k, block in enumerate(covariance):
        noise[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = forth.T @ block @ forth
    shape = np.linalg.inv(known.precision)
    off = (seen @ forth - known.mean).ravel()
    moved = known.mean + (shape @ np.linalg.solve(shape + noise, off)).reshape(-1, 2)
    return moved @ np.linalg.inv(forth) + centre


def some_covariances(rng, *shape):
    """Blocks (2, 2), and their xx, xy, yy."""
    factors = rng.normal(0, 2, (*shape, 2, 2))
    blocks = factors @ factors.swapaxes(-1, -2) + 0.2 * np.eye(2)
    return blocks, np.stack([blocks[..., 0, 0], blocks[..., 0, 1], blocks[..., 1, 1]], axis=-1)


def test_the_posterior_is_that_of_solved_equations(hands):
    rng = np.random.default_rng(0)
    known = shapes.fit(hands[:60])
    told = known[:2]
    points = hands[60:] + rng.normal(0, 3, hands[60:].shape)
    blocks, three = some_covariances(rng, 20, K)

    def posterior(*arguments):
        return np.array(
            shape_posterior.posterior(*(np.float32(argument) for argument in arguments))
        )

    found = posterior(points, three, *told)
    wanted = [by_solving(known, *pair) for pair in zip(points, blocks, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert np.abs(found - points).mean() > 0.5
    # whatever else is in the batch
    np.testing.assert_allclose(posterior(points[:1], three[:1], *told), found[:1], atol=1e-3)
    unknown = np.zeros_like(known.mean), np.eye(2 * K)
    np.testing.assert_array_equal(posterior(points, three, *unknown), points.astype("float32"))


def test_the_targets_own_spread_is_taken_off():
    blocks, three = some_covariances(np.random.default_rng(0), 5, 7)
    three[0, 0], blocks[0, 0] = (9, 0, 9), 9 * np.eye(2)
    xx, xy, yy = np.moveaxis(np.array(shape_posterior.unblurred(np.float32(three), 4.0)), -1, 0)
    values, vectors = np.linalg.eigh(blocks - 4.0 * np.eye(2))
    values = np.maximum(values, 4.0 * shape_posterior.LEAST_SPREAD)
    wanted = (vectors * values[..., None, :]) @ vectors.swapaxes(-1, -2)
    found = np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-1)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_points_that_slide_along_a_contour_find_their_places():
    rng = np.random.default_rng(0)
    contours = ellipses(rng, 140)
    layer = shape_layers.ShapePosterior((64, 64), sigma_px=2.0, radius_cells=12)
    layer.build((None, 24, 2), (None, 64, 64, 24))
    layer.set_weights(shapes.fit(contours[:100])[:2])
    logits = sliding(rng, contours[100:]).astype("float32")
    decoded, _ = layers.HeatmapDecoder((64, 64), 12)(logits)
    before, after = (
        np.linalg.norm(np.array(found) - contours[100:], axis=-1)
        for found in (decoded, layer(decoded, logits))
    )
    assert after.mean() < before.mean() / 2, (before.mean(), after.mean())
    # a point of each contour has a peak in a corner, a little higher than its own
    places = (
        np.arange(40),
        rng.integers(0, 60, 40),
        rng.integers(0, 60, 40),
        rng.integers(0, 24, 40),
    )
    logits[places] = logits.max(axis=(1, 2))[places[0], places[3]] + 1.0
    decoded, confidence = layers.HeatmapDecoder((64, 64), 12)(logits)
    known, unknown = (
        np.linalg.norm(np.array(found) - contours[100:], axis=-1)
        for found in (layer(decoded, logits, confidence), layer(decoded, logits))
    )
    assert known.max() < 0.7 * unknown.max(), (known.max(), unknown.max())
    assert known.mean() < unknown.mean()


def test_too_little_to_tell():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 5, 2))
    assert shapes.fit(points) is not None
    assert shapes.fit(points[:20]) is not None and shapes.fit(points[:19]) is None
    assert shapes.fit(points[:, :4]) is not None and shapes.fit(points[:, :3]) is None
    assert shapes.fit(points[:1] + np.zeros((30, 1, 1))) is None
    assert shapes.fit(np.zeros((30, 5, 2))) is None
    points[:11, 2, 0] = np.nan
    assert shapes.fit(points) is None
    model = models.unet(5, (32, 32), width=4, depth=2)
    assert inference_models.with_shapes(model, points) is model


@pytest.mark.slow
def test_training_says_that_there_is_too_little(tmp_path, capsys):
    data = synthetic.write(tmp_path / "data", 6, shape=(140, 100))
    small = Experiment(image_shape=(64, 48), width=4, depth=3, epochs=1, validation_images=0)
    train.train(data, small.replace(shape_prior=True), tmp_path / "run")
    assert "no shape_prior: it needs 20 training images" in capsys.readouterr().err
    assert "shape_prior" not in [m.name for m in model_files.load_model(tmp_path / "run").layers]


@pytest.mark.slow
def test_a_trained_model_has_it_and_others_start_from_it(tmp_path):
    data = synthetic.write(tmp_path / "data", 24, shape=(140, 100))
    small = Experiment(image_shape=(64, 48), width=8, depth=3, epochs=1, validation_images=0)
    first = train.train(data, small.replace(shape_prior=True), tmp_path / "a", quiet=True)
    kept = first.get_layer("shape_prior")
    in_frame = geometry.letterbox((140, 100), (64, 48)).apply(data.points).astype(np.float32)
    known = shapes.fit(in_frame)
    for found, wanted in zip(kept.get_weights(), known, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert first.output["landmarks"]._keras_history.operation is kept
    placed = kept.place[0] * np.array(kept.mean) + kept.place[2:]
    assert np.abs(placed - in_frame.mean(axis=0)).max() < 2  # where a mean hand stands
    assert (tmp_path / "a" / model_notes.MODEL).exists()
    other = small.replace(shape_posterior=True)
    train.train(data, other, tmp_path / "b", quiet=True, init=tmp_path / "a")
    weighed = model_files.load_model(tmp_path / "b")
    kept = weighed.get_layer("shape_posterior")
    assert weighed.output["landmarks"]._keras_history.operation is kept
    assert (kept.sigma_px, kept.radius_cells) == (small.sigma_px, 2)
    for found, wanted in zip(kept.get_weights(), known[:2], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    train.train(data, small, tmp_path / "c", quiet=True, init=tmp_path / "b")
