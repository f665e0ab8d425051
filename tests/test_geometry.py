"""The coordinate convention, by hand and with a drawn disc that moves together with its point."""

import naive
import numpy as np
import pytest
import tensorflow as tf
from drawing import centroid, disc
from scipy import ndimage

from kerasland import geometry, resampling
from kerasland.augmentation import augment, bilinear
from kerasland.experiment import Experiment
from kerasland.geometry import letterboxed

# source (H, W), frame (H, W): down, up, odd, not square, wider than high in a high frame
FRAMES = [
    ((200, 160), (64, 48)),
    ((201, 133), (64, 64)),
    ((33, 41), (96, 64)),
    ((57, 91), (80, 81)),
    ((90, 250), (64, 64)),
    ((50, 40), (50, 40)),
]
STILL = {"rotation_deg": 0, "scale": 0, "shift": 0, "elastic_px": 0}
PLAIN = Experiment(gamma=0, contrast=0, noise=0, **STILL)
WARPS = {
    "nothing": {},
    "rotation": {"rotation_deg": 30},
    "scale": {"scale": 0.3},
    "shift": {"shift": 0.1},
    "elastic": {"elastic_px": 2.0},
    "wide": {"wide_fraction": 0.999, "elastic_px": 1.0},
    "everything": {"rotation_deg": 20, "scale": 0.2, "shift": 0.08, "elastic_px": 1.5},
}


def test_resizing_keeps_corners_and_moves_pixel_centres():
    double = geometry.Similarity(2.0, 0.0, 0.0)
    # the outer corner of the first pixel stays, and its centre is now between the first two
    np.testing.assert_array_equal(double.apply([[-0.5, -0.5], [0, 0], [3, 1]])[0], [-0.5, -0.5])
    np.testing.assert_array_equal(double.apply([0, 0]), [0.5, 0.5])
    np.testing.assert_array_equal(double.apply([3, 1]), [6.5, 2.5])
    np.testing.assert_array_equal(double.invert([6.5, 2.5]), [3, 1])
    shifted = geometry.Similarity(0.5, 10.0, 20.0)
    np.testing.assert_array_equal(shifted.apply([3, 7]), [11.25, 23.25])


def test_letterbox_by_hand():
    # 100 high and 40 wide into 50 x 50: halved, 15 pixels free on the left and on the right
    assert geometry.letterbox((100, 40), (50, 50)) == (0.5, 15.0, 0.0)
    assert geometry.letterbox((10, 20), (40, 40)) == (2.0, 0.0, 10.0)


@pytest.mark.parametrize(("source", "frame"), FRAMES)
def test_letterbox_round_trip_and_fit(source, frame):
    fit = geometry.letterbox(source, frame)
    points = np.random.default_rng(0).uniform(-5, 300, (4, 7, 2))
    points[1, 2] = np.nan
    np.testing.assert_allclose(fit.invert(fit.apply(points)), points, atol=1e-9)
    assert np.isnan(fit.apply(points)[1, 2]).all()
    corners = fit.apply([[-0.5, -0.5], [source[1] - 0.5, source[0] - 0.5]])
    free = np.array([corners[0] + 0.5, (frame[1], frame[0]) - corners[1] - 0.5])
    np.testing.assert_allclose(free[0], free[1], atol=1e-9)  # centred
    assert free.min() >= -1e-9 and free[0].min() < 1e-9  # within the frame and touching it


@pytest.mark.parametrize(
    ("source", "target", "scale", "shift"),
    [(7, 5, 5 / 7, 0.0), (5, 9, 1.8, 0.0), (13, 20, 0.7, 3.3), (4, 12, 1.5, -2.0), (6, 6, 1.0, 0)],
)
def test_resample_matrix_against_loops(source, target, scale, shift):
    matrix = geometry.resample_matrix(source, target, scale, shift)
    assert matrix.shape == (target, source) and matrix.dtype == np.float32
    wanted = naive.resample_weights(source, target, scale, shift)
    np.testing.assert_allclose(matrix.toarray(), wanted, atol=1e-6)
    assert set(np.round(matrix.sum(axis=1), 5)) <= {0.0, 1.0}


def test_resample_matrix_by_hand():
    for arguments, wanted in (
        ((3, 3, 1.0, 0.0), np.eye(3)),
        ((2, 4, 2.0, 0.0), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
        # one pixel of margin on either side holds nothing
        ((2, 4, 1.0, 1.0), [[0, 0], [1, 0], [0, 1], [0, 0]]),
    ):
        np.testing.assert_array_equal(geometry.resample_matrix(*arguments).toarray(), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
@pytest.mark.parametrize(
    ("source", "frame"),
    [
        ((61, 43), (16, 12)),
        ((15, 20), (45, 61)),
        ((37, 90), (32, 24)),
        ((5, 5), (8, 3)),
        ((30, 90), (3 * geometry.BAND + 30, 30)),  # bands that the image does not reach
    ],
)
def test_letterboxed_against_loops(source, frame, dtype):
    image = np.random.default_rng(1).integers(0, 256, source).astype(dtype)
    image[0, 0] = 0
    fit = geometry.letterbox(source, frame)
    rows = naive.resample_weights(source[0], frame[0], fit.scale, fit.shift_y)
    columns = naive.resample_weights(source[1], frame[1], fit.scale, fit.shift_x)
    found = letterboxed(image, frame)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, rows @ image @ columns.T, atol=1e-3)
    if dtype == "uint16":  # what lies around 12 bits at the upper end of 16 is as dark as they get
        np.testing.assert_array_equal(letterboxed(image + np.uint16(61_440), frame), found)


@pytest.mark.parametrize(("source", "frame"), [((40, 30), (16, 12)), ((15, 20), (45, 60))])
def test_letterboxed_is_antialiased_resize_where_shapes_fit(source, frame):
    image = np.random.default_rng(1).uniform(0, 255, source).astype(np.float32)
    wanted = tf.image.resize(image[..., None], frame, antialias=True)[..., 0]
    np.testing.assert_allclose(letterboxed(image, frame), wanted, atol=2e-3)


@pytest.mark.parametrize(("source", "frame"), [((41, 30), (32, 40)), ((1993, 1501), (512, 384))])
def test_letterboxed_is_scale_and_translate(source, frame):
    image = np.random.default_rng(2).uniform(0, 255, source).astype(np.float32)
    fit = geometry.letterbox(source, frame)
    wanted = tf.raw_ops.ScaleAndTranslate(
        images=image[None, ..., None],
        size=frame,
        scale=[fit.scale, fit.scale],
        translation=[fit.shift_y, fit.shift_x],
        kernel_type="triangle",
        antialias=True,
    )[0, ..., 0]
    np.testing.assert_allclose(letterboxed(image, frame), wanted, atol=0.01)


def test_rotation_is_clockwise_on_the_screen():
    np.testing.assert_allclose(geometry.rotation(np.pi / 2) @ (3, 0), (0, 3), atol=1e-12)
    np.testing.assert_allclose(geometry.rotation(np.pi / 6) @ (2, 0), (3**0.5, 1), atol=1e-12)


def test_mm_per_px():
    points = np.array([[0.0, 0.0], [9.0, 9.0], [30.0, 40.0]])
    assert geometry.mm_per_px(points, (0, 2), 50.0) == 1.0
    assert geometry.mm_per_px(points * 2, (2, 0), 50.0) == 0.5
    missing, same = points.copy(), points.copy()
    missing[2, 1], same[2] = np.nan, same[0]
    stack = np.stack([points, missing, same])
    np.testing.assert_array_equal(geometry.mm_per_px(stack, (0, 2), 50.0), [1.0, np.nan, np.nan])


@pytest.mark.parametrize(("source", "frame"), FRAMES)
def test_disc_and_point_move_together_into_the_frame_and_back(source, frame):
    fit = geometry.letterbox(source, frame)
    for place in ((0.5, 0.5), (0.317, 0.701), (0.731, 0.258)):
        point = np.array([place[0] * source[1] + 0.123, place[1] * source[0] - 0.271])
        image = disc(source, point, radius=max(4.0, 4.0 / fit.scale))
        np.testing.assert_allclose(centroid(image), point, atol=0.02)
        in_numpy = letterboxed(image, frame)
        in_graph = resampling.letterboxed(image[None, ..., None], frame)
        assert in_numpy.shape == frame and in_graph.shape == (1, *frame, 1)
        np.testing.assert_allclose(in_graph[0, ..., 0], in_numpy, atol=2e-4)
        seen = centroid(in_numpy)
        np.testing.assert_allclose(seen, fit.apply(point), atol=0.05)
        back = resampling.out_of_frame(seen[None, None].astype("float32"), source, frame)
        np.testing.assert_allclose(back[0, 0], point, atol=0.05 * max(1.0, 1 / fit.scale))
        np.testing.assert_allclose(back[0, 0], fit.invert(seen), atol=1e-3)


@pytest.mark.parametrize("shape", [(256, 192), (151, 223)])
@pytest.mark.parametrize("warp", WARPS)
def test_disc_and_point_move_together_under_augmentation(warp, shape):
    experiment = PLAIN.replace(**WARPS[warp])
    moved_by, checked = [], 0
    for seed in range(4):
        for place in ((0.5, 0.5), (0.36, 0.66), (0.68, 0.33)):
            point = np.array([place[0] * shape[1] + 0.21, place[1] * shape[0] - 0.37], "float32")
            points = np.stack([point, [np.nan, np.nan]]).astype("float32")
            # small against the elastic waves, whose curvature moves a centroid by radius ** 2
            image = disc(shape, point, radius=2.5)
            warped, moved = augment(
                tf.constant(image[..., None]), tf.constant(points), (7, seed), experiment
            )
            assert warped.shape == (*shape, 1) and np.isnan(moved[1]).all()
            moved = moved.numpy()[0]
            if min(*moved, shape[1] - 1 - moved[0], shape[0] - 1 - moved[1]) < 6:
                continue
            checked += 1
            moved_by.append(np.abs(moved - point).max())
            np.testing.assert_allclose(centroid(warped[..., 0]), moved, atol=0.1)
    assert checked >= 9
    assert (max(moved_by) < 1e-3) if warp == "nothing" else (np.median(moved_by) > 0.8)


def test_augmentation_of_points_needs_no_image_content():
    # the same seed moves the same points, whatever the image shows
    points = tf.constant([[30.0, 40.0], [70.0, 20.0]])
    experiment = PLAIN.replace(**WARPS["everything"])
    blank, noise = np.zeros((64, 96, 1), "f"), np.random.default_rng(0).random((64, 96, 1), "f")
    moved = [augment(tf.constant(im), points, (1, 2), experiment)[1] for im in (blank, noise)]
    np.testing.assert_array_equal(*moved)
    other = augment(tf.constant(blank), points, (1, 3), experiment)[1]
    assert np.abs(other - moved[0]).max() > 0.5


def test_a_point_that_a_strong_warp_folds_is_left_out_and_others_go_with_their_pixels():
    """So strong for so small an image that the way back has no solution near by, or several."""
    shape, experiment = (64, 48), PLAIN.replace(elastic_px=3.0)
    grid = np.stack(np.meshgrid(np.arange(4, 48, 8.0), np.arange(4, 64, 8.0)), -1).reshape(-1, 2)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype("float32") / 64
    kept = []
    for seed in range(20):
        seen = []
        for picture in (columns, rows):  # which says of each pixel where it was
            warped, moved = augment(
                tf.constant(picture[..., None]),
                tf.constant(grid, tf.float32),
                (7, seed),
                experiment,
            )
            seen.append(64 * warped.numpy()[..., 0])
        x, y = moved.numpy().T
        known = np.isfinite(x)
        kept.append(known.mean())
        inside = known & (x > 1) & (y > 1) & (x < shape[1] - 2) & (y < shape[0] - 2)
        at = [ndimage.map_coordinates(part, [y[inside], x[inside]], order=1) for part in seen]
        assert np.abs(np.stack(at, -1) - grid[inside]).max() < 1.5
    assert 0.5 < np.mean(kept) < 0.999


def test_elastic_displacement_has_its_size_and_intensities_stay_in_range():
    grid = np.stack(np.meshgrid(np.arange(4, 96, 8.0), np.arange(4, 128, 8.0)), -1).reshape(-1, 2)
    image = tf.constant(disc((128, 96), (40, 50), 20)[..., None])
    moves = []
    for seed in range(30):
        experiment = PLAIN.replace(elastic_px=2.0)
        moved = augment(image, tf.constant(grid, tf.float32), (0, seed), experiment)[1]
        moves.append(moved - grid)
    assert 1.7 < np.sqrt(np.nanmean(np.square(moves))) < 2.3  # root mean square of a coordinate
    for seed in range(3):
        warped, _ = augment(image, tf.constant(grid, tf.float32), (0, seed), Experiment())
        assert warped.numpy().min() >= 0 and warped.numpy().max() <= 1


def augmented(image, points, **amounts):
    """What `augment` makes of them with a hundred seeds, and nothing but these amounts."""
    image, points = tf.constant(image[..., None], tf.float32), tf.constant(points, tf.float32)
    experiment = PLAIN.replace(**amounts)
    once = tf.function(lambda seed: augment(image, points, seed, experiment))
    images, moved = zip(*(once(tf.constant([4, seed])) for seed in range(100)), strict=True)
    return np.stack(images)[..., 0], np.stack(moved)


def assert_up_to(amount, values):
    """Whether values are spread from minus the amount to the amount."""
    assert -1.001 * amount < np.min(values) < -0.9 * amount
    assert 0.9 * amount < np.max(values) < 1.001 * amount


def test_an_image_is_moved_by_up_to_the_amounts_that_are_asked_for():
    centre, arm = np.array([15.5, 23.5]), np.array([10, 0])
    amounts = {"rotation_deg": 20, "scale": 0.2, "shift": 0.1}
    _, moved = augmented(np.zeros((48, 32)), [centre - arm, centre + arm], **amounts)
    x, y = (moved[:, 1] - moved[:, 0]).T
    assert_up_to(20, np.degrees(np.arctan2(y, x)))
    assert_up_to(0.2, np.hypot(x, y) / 20 - 1)
    for shifts in (moved.mean(axis=1) - centre).T:
        assert_up_to(0.1 * 48, shifts)  # of the longer side


def test_intensities_change_by_up_to_the_amounts_that_are_asked_for():
    image = np.random.default_rng(0).uniform(0.1, 0.9, (45, 33))
    powers = np.log(augmented(image, [[0, 0]], gamma=0.5)[0]) / np.log(image)
    np.testing.assert_allclose(powers, powers[:, :1, :1] * np.ones_like(image), rtol=1e-3)
    assert_up_to(0.5, np.log(powers[:, 0, 0]))

    grey = np.full((45, 33), 0.5)
    gains = augmented(grey, [[0, 0]], contrast=0.2)[0] / 0.5 - 1
    for row in (7, 22, 37):  # the middle of each third, where the gains are drawn
        for column in (5, 16, 27):
            assert_up_to(0.2, gains[:, row, column])
    for axis, size in ((1, 45), (2, 33)):  # a cubic is at most 1.5 times as steep as a line
        assert np.abs(np.diff(gains, axis=axis)).max() < 1.5 * 2 * 0.2 / (size / 3) * 1.3

    noise = augmented(grey, [[0, 0]], noise=0.05)[0] - 0.5
    deviations = noise.std(axis=(1, 2))
    assert 0.9 * 0.05 < deviations.max() < 1.1 * 0.05 and deviations.min() < 0.1 * 0.05
    together = np.corrcoef([noise[0].ravel(), noise[1].ravel(), np.roll(noise[0], 1, 0).ravel()])
    assert np.abs(together - np.eye(3)).max() < 0.1  # no pixel like its neighbour or another day's


def test_a_share_of_images_is_turned_and_made_smaller_by_more_and_points_of_others_stay():
    shape, rng = (128, 96), np.random.default_rng(0)
    image = tf.constant(rng.random((*shape, 1), "float32"))
    ends = tf.constant([[30.0, 40.0], [60.0, 40.0]])
    common = PLAIN.replace(rotation_deg=5, scale=0.05, shift=0.02)
    wide = common.replace(wide_fraction=0.3, wide_rotation_deg=40, wide_scale=0.1)
    without, mixed = (
        tf.function(lambda seed, e=e: augment(image, ends, seed, e)[1]) for e in (common, wide)
    )
    scales, turns, shares = [], [], []
    for seed in range(300):
        plain, moved = (move(tf.constant([3, seed])).numpy() for move in (without, mixed))
        shares.append(np.abs(plain - moved).max() > 1e-3)
        if shares[-1]:
            across = moved[1] - moved[0]
            scales.append(np.hypot(*across) / 30)
            turns.append(np.degrees(np.arctan2(across[1], across[0])))
    assert 0.22 < np.mean(shares) < 0.38
    assert 0.099 < np.min(scales) < 0.13 and 0.85 < np.max(scales) < 1.001
    assert -40.01 < np.min(turns) < -34 and 34 < np.max(turns) < 40.01
    assert 0.22 < np.median(scales) < 0.45  # log-uniform: 0.32; uniform would be 0.55


def test_around_an_image_it_is_black_or_up_to_as_bright_as_the_uppermost_row():
    """In half of the images each, where some are made smaller by more; else it is black."""
    shape = (64, 48)
    image = np.full(shape, 0.9, "float32")
    image[0] = 0.6
    smaller = PLAIN.replace(wide_fraction=0.999, wide_rotation_deg=0, wide_scale=0.3)
    levels = []
    for seed in range(60):
        found = augment(tf.constant(image[..., None]), tf.zeros([1, 2]), (3, seed), smaller)[0]
        corners = found.numpy()[:: shape[0] - 1, :: shape[1] - 1, 0].ravel()
        levels.append(corners.min())  # of four at least one shows no image
    assert 15 < np.sum(np.less(levels, 1e-6)) < 45
    assert max(levels) <= 0.61 and np.std(np.unique(np.round(levels, 2))) > 0.1
    shifted = PLAIN.replace(shift=0.3)
    found = augment(tf.constant(image[..., None]), tf.zeros([1, 2]), (3, 1), shifted)[0]
    assert found.numpy().min() < 1e-6


def test_what_is_made_smaller_is_as_fine_as_a_smaller_image():
    """Against the resampling of images that are read, which does not alias."""
    shape = (160, 120)
    image = np.random.default_rng(0).random(shape, "float32")
    image[0] = 0  # black goes on around it
    experiment = PLAIN.replace(wide_fraction=0.999, wide_rotation_deg=0, wide_scale=0.4)
    ends = tf.constant([[0.0, 0.0], [119.0, 159.0]])
    for seed in range(5):
        found, moved = augment(tf.constant(image[..., None]), ends, (3, seed), experiment)
        scale = float(np.ptp(moved[:, 0])) / 119
        assert 0.4 <= scale <= 1
        shift = moved.numpy()[0] + 0.5 - 0.5 * scale
        wanted = geometry.resample(image, shape, geometry.Similarity(scale, *shift))
        top, left = np.ceil(moved.numpy()[0, ::-1] + 3).astype(int)
        bottom, right = np.floor(moved.numpy()[1, ::-1] - 3).astype(int)
        inside = np.s_[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        assert wanted[inside].size > 500
        found = found.numpy()[..., 0][inside]
        assert np.corrcoef(found.ravel(), wanted[inside].ravel())[0, 1] > 0.9
        assert 0.6 < found.std() / wanted[inside].std() < 1.05


def test_bilinear_by_hand():
    image = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    x = [[0, 1, 0.5, 0, -0.5, -1, 1.5, 9]]
    y = [[0, 0, 0.5, 0.25, 0, 0, 1, -9]]
    found = bilinear(image, tf.constant(x, tf.float32), tf.constant(y, tf.float32))[0]
    np.testing.assert_allclose(found, [1, 2, 2.5, 1.5, 0.5, 0, 2, 0])
