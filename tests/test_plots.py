"""The pictures: drawn where the data are, in the colours and sizes they promise."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from kerasland import closeups, overlays, pictures, plots, tables
from kerasland.errors import DataError


def rendered(figure):
    """(H, W, 3), 0..255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def coloured(picture, color):
    target = np.round(255 * np.array(to_rgb(color))).astype(int)
    return np.abs(picture - target).max(axis=-1) <= 40


def centroid_in_image(figure, mask):
    """Centroid of the coloured pixels inside the image, in image pixels; their number."""
    axes = figure.axes[0]
    rows, columns = np.nonzero(mask)
    display = np.stack([columns + 0.5, len(mask) - rows - 0.5], axis=1)
    data = axes.transData.inverted().transform(display)
    left, right, bottom, top = (*axes.get_xlim(), *axes.get_ylim())
    x, y = data.T
    data = data[(x > left) & (x < right) & (y < bottom) & (y > top)]
    return data.mean(axis=0), len(data)


def hand(height=1500, width=1100, dtype=np.uint8):
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    return rng.integers(0, top, (height, width, 1), dtype=dtype, endpoint=True)


def errors(scale_mm, images=20, landmarks=5, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(index=range(images * landmarks), columns=list(tables.ERROR_COLUMNS))
    table["image_id"] = np.repeat(np.arange(images), landmarks).astype(str)
    table["landmark"] = [f"landmark_{k}" for k in range(landmarks)] * images
    table["error_mm"] = rng.gamma(2.0, scale_mm, len(table))
    table["error_px"] = table["error_mm"] * 8
    return table


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2000, 1500), np.uint8), ((600, 900), np.uint16), ((90, 70), np.uint8)],
)
def test_overlay_draws_points_where_they_are(shape, dtype):
    black = np.zeros(shape, dtype)
    point = np.array([0.3 * shape[1], 0.7 * shape[0]])
    truth = np.array([0.6 * shape[1], 0.2 * shape[0]])
    nowhere = np.array([np.nan, 5.0])
    figure = plots.overlay(black, np.stack([point, nowhere]), np.stack([nowhere, truth]))
    picture = rendered(figure)
    tolerance_px = 0.001 * max(shape)
    for expected, color in ((point, overlays.PREDICTED), (truth, overlays.ANNOTATED)):
        centre, count = centroid_in_image(figure, coloured(picture, color))
        assert count > 20
        assert centre == pytest.approx(expected, abs=tolerance_px)


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        ((2000, 1500), np.uint8, 1 / 2),
        ((2701, 1500), np.uint8, 1 / 3),
        ((2701, 1500), np.uint16, 1 / 3),
        ((1203, 900), np.uint8, 1),
        ((601, 902), np.uint16, 1000 / 902),
        ((90, 70, 1), np.uint8, 1000 / 90),
    ],
)
def test_draw_puts_discs_where_the_points_are(shape, dtype, scale):
    height, width = shape[:2]
    point, corner = np.array([0.3 * width + 0.21, 0.7 * height]), np.array([width - 1, 0])
    outside = np.array([[np.nan, 5.0], [-9.0, 5.0], [width + 1, 5], [5.0, height + 1]])
    picture = pictures.Drawing(np.zeros(shape, dtype)).marked([point, corner, *outside])
    assert picture.size == pytest.approx((width * scale, height * scale), abs=1)
    y, x = np.nonzero(coloured(np.asarray(picture), overlays.PREDICTED))
    expected = (np.stack([point, corner]) + 0.5) * scale - 0.5
    near = np.hypot(x - expected[:, :1], y - expected[:, 1:]) < 8
    area = (max(picture.size) / 1000) ** 2  # discs are as large as the picture
    assert near.any(axis=0).all() and near[0].sum() > 20 * area and near[1].sum() > 6 * area
    assert (x[near[0]].mean(), y[near[0]].mean()) == pytest.approx(expected[0], abs=0.25)


def test_names_stand_beside_their_discs_within_the_picture():
    drawing, points = pictures.Drawing(np.zeros((500, 400), np.uint8)), [[50, 100], [390, 300]]
    names = ["wrist", "the tip of a very long finger"]
    plain, named = (np.asarray(drawing.marked(points, names=n)) for n in (None, names))
    y, x = np.nonzero((plain != named).any(axis=-1))
    first = y < 400  # the picture is twice as large
    assert 105 < x[first].min() < 115 and 120 < x[first].max() < 200
    assert 400 < x[~first].min() < 650 and 750 < x[~first].max() < 775
    for rows, middle in ((y[first], 201), (y[~first], 601)):
        assert abs(rows.mean() - middle) < 6
    accents = [np.asarray(drawing.marked([[50, 100]], names=[letter])) for letter in "éü"]
    assert (accents[0] != accents[1]).any()  # no boxes
    outside = drawing.marked([[np.nan, 0.0], [500, 500]], names=names)
    assert np.asarray(outside).max() == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_name_that_the_font_lacks_is_the_number_of_its_landmark(elsewhere, monkeypatch):
    """Also in Pillow's own font, where a system keeps Matplotlib's elsewhere."""
    if elsewhere:
        monkeypatch.setattr(pictures.Path, "exists", lambda path: False)
    pictures._has.cache_clear()
    names = ["wrist bone", "指尖", "of a 指"]
    numbered = ["wrist bone", "1", "2"]
    points = [[50.0, 100], [50, 200], [50, 300]]
    drawing = pictures.Drawing(np.zeros((500, 400), np.uint8))
    found, wanted = (np.asarray(drawing.marked(points, names=n)) for n in (names, numbered))
    np.testing.assert_array_equal(found, wanted)
    monkeypatch.undo()
    pictures._has.cache_clear()
    texts = plots.overlay(hand(), np.array(points), names=names).axes[0].texts
    assert [text.get_text() for text in texts] == numbered


@pytest.mark.parametrize(
    ("dtype", "dark", "bright"), [(np.uint16, 1000, 40_000), (np.uint8, 9, 90)]
)
def test_draw_shows_the_image_itself(dtype, dark, bright):
    image = np.full((2000, 1500), dark, dtype)
    image[500:700, 1000:1300] = bright
    drawn = np.asarray(pictures.Drawing(image).marked(np.full((3, 2), np.nan)))
    assert drawn.shape == (1000, 750, 3)
    assert (drawn[252:348, 502:648] == 255).all()
    drawn = drawn.copy()
    drawn[248:352, 498:652] = 0
    assert (drawn == 0).all()
    assert np.asarray(pictures.Drawing(np.full((50, 40), 7)).marked(np.zeros((0, 2)))).max() == 0


@pytest.mark.parametrize(("dtype", "dark", "bright"), [(np.int16, -2e4, 2e4), (bool, 0, 1)])
def test_a_small_bright_part_of_any_type_is_seen(dtype, dark, bright):
    image = np.full((1000, 400), dark, dtype)
    image[500, 200] = bright
    drawn = np.asarray(pictures.Drawing(image).marked(np.zeros((0, 2))))
    assert drawn[500, 200].tolist() == [255] * 3 and drawn.sum() == 3 * 255


def test_overlay_shows_the_image_itself_where_it_is():
    image = np.zeros((2000, 1500), np.uint16)
    image[500:540, 1000:1060] = 40_000
    figure = plots.overlay(image, np.full((3, 2), np.nan))
    drawn = figure.axes[0].images[0]
    assert drawn.get_array().shape == (1200, 900)
    assert drawn.get_extent() == pytest.approx((-0.5, 1499.5, 1999.5, -0.5))
    centre, count = centroid_in_image(figure, rendered(figure).min(axis=-1) > 128)
    assert count > 100
    assert centre == pytest.approx((1029.5, 519.5), abs=0.3)


def test_marks_keep_their_share_of_the_image():
    share = []
    for size in (300, 2400):
        figure = plots.overlay(np.zeros((size, size)), np.array([[size / 2, size / 2]]))
        mask = coloured(rendered(figure), overlays.PREDICTED)
        share.append(np.sqrt(centroid_in_image(figure, mask)[1]))
    assert share[0] == pytest.approx(share[1], rel=0.05)


def test_a_prediction_is_joined_to_its_annotation_and_its_error_written():
    points, truth = np.array([[300.0, 750.0], [600, 300]]), np.array([[800.0, 750.0], [600, 301]])
    figure = plots.overlay(hand(), points, truth, names=["tip", "base"], mm_per_px=0.1)
    axes = figure.axes[0]
    (segment, _) = axes.collections[-1].get_segments()
    np.testing.assert_allclose(segment, [[800, 750], [300, 750]])
    written = {text.get_text() for text in axes.texts}
    assert written == {"tip", "base", "50.0 mm", "10 mm"}  # 0.1 mm is not worth a label
    assert "error: mean 25.05 mm, largest 50.00 mm" in {text.get_text() for text in figure.texts}
    bar = next(line for line in axes.lines if line.get_color() == "white")
    assert np.ptp(bar.get_xdata()) == pytest.approx(100.0)  # 10 mm at 0.1 mm a pixel


def test_errors_and_the_bar_where_pixels_are_not_square():
    points, truth = np.array([[310.0, 750.0], [600, 310]]), np.array([[300.0, 750.0], [600, 300]])
    figure = plots.overlay(hand(), points, truth, mm_per_px=(0.2, 0.3))
    assert "error: mean 2.50 mm, largest 3.00 mm" in {text.get_text() for text in figure.texts}
    bar = next(line for line in figure.axes[0].lines if line.get_color() == "white")
    assert np.ptp(bar.get_xdata()) == pytest.approx(50.0)  # along x


def test_the_annotation_alone_is_called_so():
    truth = np.array([[300.0, 750.0], [np.nan, np.nan], [600, 300]])
    figure = plots.overlay(hand(), None, truth, names=["tip", "none", "base"], mm_per_px=0.1)
    (said,) = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == "annotated" and not figure.texts
    assert {text.get_text() for text in figure.axes[0].texts} == {"tip", "base", "10 mm"}
    picture = rendered(figure)
    assert coloured(picture, overlays.ANNOTATED).any()
    assert not coloured(picture, overlays.PREDICTED).any()
    grid = plots.overlay_grid([overlays.Overlay(hand(), None, truth)])
    assert [text.get_text() for text in grid.legends[0].get_texts()] == ["annotated"]


def test_without_a_scale_errors_are_pixels_and_there_is_no_bar():
    points = np.array([[300.0, 750.0]])
    for unknown in (None, np.nan):
        figure = plots.overlay(hand(), points, points + [3, 4], mm_per_px=unknown)
        assert not figure.axes[0].texts
        assert "error: mean 5.0 px, largest 5.0 px" in {text.get_text() for text in figure.texts}

    smaller = plots.overlay(hand(), points, points + [3, 4], shrunk=4.0)
    assert "error: mean 20.0 px" in smaller.texts[-1].get_text()


def test_a_name_with_dollars_is_no_formula():
    name, point = "a_$1_$2", np.full((1, 2), 30.0)
    item = overlays.Overlay(np.eye(90, 60), point, point, [name], title=name)
    close = closeups.Closeup(np.eye(90, 60), point[0], point[0], 20.0, name)
    table = tables.per_landmark(errors(1.0).assign(landmark=name))
    maps = plots.correlation_maps(np.eye(2), np.eye(2), [name, name])
    for figure in (plots.overlay(*item), plots.overlay_grid([item]), closeups.closeups([close])):
        rendered(figure)
    rendered(maps)
    rendered(plots.per_landmark_bars(table))


def test_nothing_to_draw_is_still_a_picture():
    points = np.full((2, 2), np.nan)
    rendered(plots.overlay(np.full((50, 40), 7), points, points, ["a", "b"], 0.1, "flat"))


def test_overlay_grid_titles_every_image():
    items = [
        plots.Overlay(hand(*shape), np.array([[50.0, 60.0]]), None, None, 0.1, f"image {i}")
        for i, shape in enumerate([(300, 200), (200, 300), (250, 250), (300, 150)])
    ]
    figure = plots.overlay_grid(items)
    rendered(figure)
    assert [axes.get_title() for axes in figure.axes] == [*(f"image {i}" for i in range(4)), "", ""]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 0, 0]
    with pytest.raises(DataError):
        plots.overlay_grid([])


def test_cumulative_error_reads_as_a_percentage():
    table = errors(1.0)[:5]
    table["error_mm"] = [1.0, 2.0, 3.0, 20.0, np.nan]
    figure = plots.cumulative_error({"four points": table, "other": errors(0.5)})
    axes = figure.axes[0]
    curve = next(line for line in axes.lines if line.get_label() == "four points: 6.50 mm")
    x, y = curve.get_data()
    read = {at: y[np.searchsorted(x, at, side="right") - 1] for at in (0.5, 1.0, 2.0, 2.9, 4, 10)}
    assert read == {0.5: 0, 1.0: 25, 2.0: 50, 2.9: 50, 4: 75, 10: 75}
    assert axes.get_xlim()[1] == 10.0
    rendered(figure)
    unknown = {"empty": table.assign(error_mm=np.nan)}
    with pytest.raises(DataError, match="empty: no error in mm"):
        plots.cumulative_error(unknown)
    in_px = plots.cumulative_error(unknown, largest=100.0, unit="px").axes[0]
    assert in_px.get_xlabel() == "error, px" and in_px.get_xlim() == (1.0, 100.0)
    assert [label.get_text() for label in in_px.get_xticklabels()][0] == "1"


def test_correlation_maps_share_a_scale_and_centre_the_difference():
    rng = np.random.default_rng(0)
    predicted, annotated = rng.uniform(-0.5, 0.8, (2, 37, 37))
    annotated[3] = annotated[:, 3] = np.nan
    figure = plots.correlation_maps(predicted, annotated, [f"landmark {k}" for k in range(37)])
    rendered(figure)
    left, middle, right = (axes.images[0] for axes in figure.axes[:3])
    assert left.get_clim() == middle.get_clim()
    assert right.get_clim()[0] == -right.get_clim()[1]
    np.testing.assert_allclose(right.get_array().filled(np.nan), predicted - annotated)
    assert len(figure.axes[0].get_yticklabels()) == 8
    rendered(plots.correlation_maps(predicted[:4, :4], predicted[:4, :4]))


@pytest.mark.parametrize(("landmarks", "labels"), [(4, 4), (37, 8), (120, 6)])
def test_single_correlation_maps_stay_legible(landmarks, labels):
    predicted, annotated = np.random.default_rng(0).uniform(-1, 1, (2, landmarks, landmarks))
    figures = plots.single_correlation_maps(predicted, annotated)
    assert len({rendered(figure).shape for figure in figures}) == 1
    images = [figure.axes[0].images[0] for figure in figures]
    assert images[0].get_clim() == images[1].get_clim()
    np.testing.assert_allclose(images[2].get_array(), predicted - annotated)
    for figure in figures:
        axes = figure.axes[0]
        assert len(axes.get_yticklabels()) == labels and axes.get_title(loc="left")
        # nothing is cut off at the edge
        box = figure.get_tightbbox()
        assert box.x0 >= 0 and box.x1 <= figure.get_figwidth() and box.y1 <= figure.get_figheight()


def test_per_landmark_bars_are_in_order():
    table = tables.per_landmark(errors(1.0))
    axes = plots.per_landmark_bars(table).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(table.landmark)
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(table.error_mm_mean))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first landmark on top
    pixels = plots.per_landmark_bars(tables.per_landmark(errors(1.0).assign(error_mm=np.nan)))
    assert pixels.axes[0].get_xlabel() == "error, px"


def test_long_names_stay_within_their_figures():
    """Such as the identifiers of DICOM, of up to 64 characters, and sentences as landmarks."""
    uid, sentence = f"1.2.840.{'1234567890' * 5}.77", "the tip of the finger that " * 4
    item = overlays.Overlay(np.eye(90, 60), np.full((1, 2), 30.0), title=uid)
    for axes in overlays.overlay_grid([item] * 3).axes[:3]:
        assert re.fullmatch(r"1\.2\.840\.1.{10}…\d+\.77", axes.get_title())
    text = overlays.overlay(np.eye(90, 60), np.full((1, 2), 30.0), title=uid).texts[0].get_text()
    assert len(text) == 40 and text.endswith(".77")
    bars = plots.per_landmark_bars(tables.per_landmark(errors(1.0).assign(landmark=sentence)))
    assert len(bars.axes[0].get_yticklabels()[0].get_text()) == 40


def test_history_takes_what_there_is():
    steps = np.arange(4.0)
    frame = pd.DataFrame(
        {
            "epoch": steps,
            "loss": 4 - steps,
            "heatmaps_loss": 3 - steps,
            "val_loss": 5 - steps,
            "val_landmarks_error": [np.nan, 3, np.nan, 2],
            "learning_rate": 1e-3,
            "note": ["a", "b", "c", "d"],
        }
    )
    figure = plots.history(frame)
    rendered(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "loss",
        "landmarks error",
        "learning rate",
    ]
    assert [len(axes.lines) for axes in figure.axes] == [3, 1, 1]
    assert len(plots.history(frame[["loss"]]).axes) == 1
    with pytest.raises(DataError):
        plots.history(frame[["epoch", "note"]])


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_save_is_whole_or_absent(tmp_path, suffix):
    figure = plots.per_landmark_bars(tables.per_landmark(errors(1.0)))
    path = tmp_path / "deep" / f"bars.{suffix}"
    plots.save(figure, path)
    assert path.stat().st_size > 1000
    before = path.read_bytes()
    figure.savefig = lambda path: (path.write_text("half"), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plots.save(figure, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_closeup_stays_close_where_the_prediction_is_far_and_the_border_near():
    image = np.random.default_rng(0).uniform(size=(90, 120))
    figure = closeups.closeups(
        [
            closeups.Closeup(image, np.array(point), np.array(truth), 20.0, "a title")
            for point, truth in (((52, 49), (50, 50)), ((110, 5), (50, 50)), ((5, 88), (4, 86)))
        ]
    )
    limits = [(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes]
    assert limits == [(39.5, 59.5, 59.5, 39.5)] * 2 + [(-6.5, 13.5, 95.5, 75.5)]
    shown = [axes.images[0] for axes in figure.axes]
    assert shown[2].get_extent() == [-0.5, 13.5, 89.5, 75.5]
    assert [picture.get_array().shape for picture in shown] == [(20, 20), (20, 20), (14, 14)]
    joined, ring, cross = (line.get_xydata().tolist() for line in figure.axes[1].lines)
    assert joined == [[50, 50], [110, 5]] and ring == [[50, 50]] and cross == [[110, 5]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["annotated", "predicted"]
    huge = closeups.Closeup(image, (50, 51), (50, 51), 0.2, "")  # a pixel is said to be 150 mm
    assert len(closeups.closeups([huge]).axes) == 1
    (odd,) = closeups.closeups([closeups.Closeup(image, (50, 51), (50, 51), 21.0, "")]).axes
    assert odd.images[0].get_array().shape == (21, 21)
    for axes in figure.axes:
        x, y, width, height = axes.get_position().bounds
        assert x >= 0 and y >= 0 and x + width <= 1 and y + height <= 1
