"""The report in a real browser: it loads nothing, sorts, opens, zooms, and serves the keyboard."""

import base64
import io
import json
import re
import shutil
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from benchmarks.shape_prior import on_a_plate, turned
from kerasland import (
    cross_validate,
    evaluate,
    localizers,
    model_files,
    phantom,
    preparation,
    report,
    report_data,
    report_runs,
    report_tables,
    run_folder,
    table_files,
    tables,
    train,
)
from kerasland.__main__ import main
from kerasland.closer_look import View
from kerasland.errors import DataError
from kerasland.experiment import Experiment
from kerasland.layers import HeatmapDecoder
from kerasland.scale import Scale

TINY = Experiment(
    image_shape=(64, 48),
    width=8,
    max_width=16,
    depth=3,
    sigma_px=1.5,
    epochs=1,
    validation_images=0,
)
# names that would be markup, a script or an entity if anyone read them as such
HOSTILE = ("</script><script>window.hacked=1</script>", "<b>&amp; <img src=x onerror=hacked=1>")
HOSTILE_ID = "<img src=x onerror=hacked=1>"
LONG = "outermostpointofthe" + 3 * "distalradialmetaphysis"


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    """Drawn hands with hostile names and a point that is not annotated in the test images."""
    records = []
    for i in range(8):
        image, points = phantom.hand(i, shape=(140, 100))
        points[7] = np.nan
        records.append((HOSTILE_ID if i == 0 else f"hand{i}", image, points))
    ids = [record[0] for record in records]
    return preparation.write(
        tmp_path_factory.mktemp("report") / "hands",
        name="drawn",
        landmarks=[*HOSTILE, *phantom.LANDMARK_NAMES[2:4], LONG, *phantom.LANDMARK_NAMES[5:]],
        records=records,
        scale=Scale(landmarks=(0, 4), length_mm=50.0),
        folds={"dev": (ids[3:], ids[:3]), "other": (ids[:3] + ids[5:], ids[3:5])},
    )


@pytest.fixture(scope="module")
def runs(hands):
    """Two evaluated runs, one without spatial feature maps."""
    made = []
    for seed, (name, maps) in enumerate((("first", "both"), ("second", "none"))):
        made.append(
            untrained(hands, TINY.replace(maps=maps, seed=seed), hands.folder.parent / name)
        )
    return made


def untrained(data, experiment, run):
    """The evaluated run of a network that has not learnt anything, which saves the time."""
    keras.utils.set_random_seed(experiment.seed)
    parts = run_folder.split(data, "dev", experiment)
    experiment.save(run / "experiment.json", **run_folder.notes_of(data, parts))
    train.build(experiment, data.landmarks).save(run / "model.keras")
    evaluate.evaluate(run, data)
    return run


@pytest.fixture(scope="module")
def page(runs):
    out = runs[0].parent / "any name.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module", params=(2, 6))
def reproduced(request, runs):
    """A report of as many runs as are asked for, with the names that `reproduce` gives."""
    home, count = runs[0].parent / f"reproduced{request.param}" / "runs", request.param // 2
    named = [
        shutil.copytree(run, home / f"{method}_ten_seed{seed}")
        for run, method in zip(runs, ("unet+cartesian+polar", "unet"), strict=True)
        for seed in range(count)
    ]
    report.report(named, home.parent / "report.html")
    return SimpleNamespace(
        home=home, names=[run.name for run in named], page=home.parent / "report.html"
    )


def load(browser, page, width=1400, height=900):
    """Opens a page at a size, with nothing left in the logs."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    return browser


def find(browser, selector):
    return browser.find_element("css selector", selector)


def finds(browser, selector):
    return browser.find_elements("css selector", selector)


def press(browser, key, held=None):
    from selenium.webdriver import ActionChains

    actions = ActionChains(browser)
    if held:
        actions.key_down(held)
    actions.send_keys(key)
    if held:
        actions.key_up(held)
    actions.perform()


def zoom(browser) -> int:
    return int(find(browser, "#zoom").text.rstrip(" %"))


def width_shown(browser) -> float:
    low, high = browser.execute_script("return stage.layout.xaxis.range")
    return high - low


def errors_of(run, home="evaluation") -> pd.DataFrame:
    return pd.read_csv(run / home / "errors.csv").pivot(
        index="image_id", columns="landmark", values="error_mm"
    )


def gallery(browser) -> list[str]:
    return [item.get_attribute("textContent") for item in finds(browser, "#gallery .id")]


def assert_quiet(browser):
    """No message on the console, and nothing asked for but the file itself."""
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


@pytest.mark.slow
def test_loads_without_network_errors_or_injected_markup(browser, page, hands):
    load(browser, page)
    assert browser.title == "first, second – kerasland report"
    assert len(finds(browser, ".js-plotly-plot")) == 3  # curves, comparison, points by landmark
    for label in finds(browser, "#strip .ytick text")[:2]:
        assert label.text in HOSTILE or "…" in label.text
    assert max(len(label.text) for label in finds(browser, "#strip .ytick text")) < 40
    for chart, count in (("curves", 2), ("strip", 1)):  # the grid does not hide them
        assert len(finds(browser, f"#{chart} .layer-between path")) == count
    for i in range(3):
        browser.execute_script(f"openImage({i})")
    assert browser.execute_script("return window.hacked") is None
    assert HOSTILE_ID in gallery(browser)
    names = [button.text for button in finds(browser, "#points tbody button")]
    assert set(names) == set(hands.landmarks)
    assert_quiet(browser)


@pytest.mark.slow
def test_the_gallery_sorts_by_error_and_id(browser, page, runs):
    load(browser, page)
    means = [errors_of(run).mean(axis=1) for run in runs]
    assert gallery(browser) == list(means[0].sort_values(ascending=False).index)
    for value, expected in (
        ("mean 1", means[1].sort_values(ascending=False)),
        ("largest 0", errors_of(runs[0]).max(axis=1).sort_values(ascending=False)),
        ("difference 1", (means[1] - means[0]).sort_values(ascending=False)),
    ):
        find(browser, f"#order option[value='{value}']").click()
        assert gallery(browser) == list(expected.index), value
    find(browser, "#direction").click()
    assert gallery(browser) == list(expected.index)[::-1]
    find(browser, "#order option[value='id 0']").click()
    assert gallery(browser)[-2:] == ["hand1", "hand2"]
    assert find(browser, "#sorted").text == "by image id, smallest first"


@pytest.mark.slow
def test_a_table_sorts_by_its_headers(browser, page, runs):
    load(browser, page)
    table = find(browser, "#h-landmarks ~ .scroll table")
    headers = table.find_elements("css selector", "thead th")
    column = [header.text for header in headers].index("PE max, mm")
    assert table.find_element("css selector", "caption").text.startswith("first: ")
    largest = errors_of(runs[0]).max()
    for order in ("descending", "ascending"):
        headers[column].find_element("css selector", "button").click()
        assert headers[column].get_attribute("aria-sort") == order
        names = [cell.text for cell in table.find_elements("css selector", "tbody th")]
        assert names[-1] == phantom.LANDMARK_NAMES[7]  # which nobody annotated
        expected = largest.dropna().sort_values(ascending=order == "ascending")
        assert names[:-1] == list(expected.index)
    assert len(table.find_elements("css selector", "th[aria-sort]")) == 1


@pytest.mark.slow
def test_the_keyboard_opens_zooms_moves_and_closes(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    load(browser, page)
    order = gallery(browser)
    browser.execute_script("arguments[0].focus()", find(browser, ".skip"))
    press(browser, "\ue007")  # Enter: an address that takes the focus when one comes back to it
    assert browser.current_url.endswith("#images")
    browser.execute_script("arguments[0].focus()", find(browser, "#gallery button"))
    press(browser, "\ue007")
    assert find(browser, "#viewer").get_attribute("open")
    assert find(browser, "#viewer-title").text == f"Image {order[0]}"
    assert zoom(browser) == 100
    whole = width_shown(browser)
    press(browser, "+")
    assert zoom(browser) == 150 and width_shown(browser) == pytest.approx(whole / 1.5)
    before = browser.execute_script("return stage.layout.xaxis.range")
    press(browser, "\ue014", held="\ue008")  # Shift and right
    moved = browser.execute_script("return stage.layout.xaxis.range")
    assert moved[0] > before[0] and moved[1] - moved[0] == pytest.approx(before[1] - before[0])
    press(browser, "-")
    press(browser, "-")
    assert zoom(browser) == 67
    press(browser, "0")
    assert zoom(browser) == 100
    press(browser, "z")
    assert zoom(browser) > 200
    press(browser, "\ue014")  # right
    assert find(browser, "#viewer-title").text == f"Image {order[1]}" and zoom(browser) == 100
    find(browser, "#points tbody button").click()
    for place in (2, 0, 1):  # also where the focus was in what is drawn anew
        press(browser, "\ue014")
        assert find(browser, "#viewer-title").text == f"Image {order[place]}"
    press(browser, "\ue012")  # left
    press(browser, "\ue012")
    assert find(browser, "#viewer-title").text == f"Image {order[2]}"
    press(browser, "\ue00c")  # Escape
    wait_for(browser, "#viewer:not([open])")
    WebDriverWait(browser, 10).until(lambda _: browser.current_url.endswith("#images"))
    focused = wait_for(browser, "#gallery button:focus")
    assert focused.find_element("css selector", ".id").text == order[2]
    assert_quiet(browser)


@pytest.mark.slow
def test_an_address_opens_an_image_and_back_closes_it(browser, page, hands):
    from selenium.webdriver.support.ui import WebDriverWait

    def closed(_=None) -> bool:
        """Where it was before: no address of an image, and no step of the history left over."""
        place = browser.execute_script("return [viewer.open, location.hash, history.state]")
        return place == [False, "", None]

    load(browser, page)
    index = runs_ids(page.parent / "first").index(HOSTILE_ID)
    browser.execute_script(f"openImage({index})")
    name = find(browser, "#points [aria-pressed=true]").text
    browser.execute_script("choose(arguments[0])", hands.landmarks.index(HOSTILE[1]))
    link = browser.current_url
    assert name != HOSTILE[1] and link.startswith(page.as_uri() + "#image=")
    press(browser, "\ue014")  # right: still one step back
    assert browser.current_url != link
    browser.back()
    WebDriverWait(browser, 10).until(closed)
    browser.forward()
    wait_for(browser, "#viewer[open]")
    press(browser, "\ue00c")  # Escape
    WebDriverWait(browser, 10).until(closed)

    browser.get("about:blank")
    browser.get(link)
    assert find(browser, "#viewer-title").text == f"Image {HOSTILE_ID}"
    assert find(browser, "#points [aria-pressed=true]").text == HOSTILE[1]
    find(browser, "#close").click()
    WebDriverWait(browser, 10).until(closed)
    for fragment, opened in (("image=hand1", "Image hand1"), ("image=gone", ""), ("images", "")):
        browser.execute_script("location.hash = arguments[0]", fragment)
        selector = "#viewer[open]" if opened else "#viewer:not([open])"
        wait_for(browser, selector)
        assert find(browser, "#viewer-title").text == opened


@pytest.mark.slow
def test_the_picture_has_the_size_of_its_place_when_opened_again(browser, page):
    load(browser, page, width=700, height=450)
    browser.execute_script("openImage(0)")
    find(browser, "#correlation summary").click()
    wait_for(browser, "#maps .heatmaplayer")
    browser.execute_script("viewer.close()")
    wait_for(browser, "#viewer:not([open])")
    size = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
    browser.execute_script("openImage(0)")
    for chart in ("stage", "maps"):
        drawn, place = browser.execute_script(
            "return [arguments[0].querySelector('svg'), arguments[0]]"
            ".map((one) => one.getBoundingClientRect().width)",
            find(browser, f"#{chart}"),
        )
        assert drawn == pytest.approx(place, abs=1)
    assert find(browser, "#stage").size["width"] > 800


@pytest.mark.slow
def test_the_wheel_zooms_and_a_drag_pans(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    load(browser, page)
    browser.execute_script("openImage(0)")
    picture = find(browser, "#stage .nsewdrag")
    whole = width_shown(browser)
    origin = ScrollOrigin.from_element(picture)
    ActionChains(browser).scroll_from_origin(origin, 0, -300).pause(0.5).perform()
    zoomed = width_shown(browser)
    assert zoomed < 0.95 * whole
    low, _ = browser.execute_script("return stage.layout.xaxis.range")
    ActionChains(browser).drag_and_drop_by_offset(picture, -60, 0).perform()
    moved, _ = browser.execute_script("return stage.layout.xaxis.range")
    assert moved > low and width_shown(browser) == pytest.approx(zoomed)
    assert zoom(browser) == pytest.approx(100 * whole / zoomed, abs=2)
    assert_quiet(browser)


@pytest.mark.slow
def test_the_curves_are_the_shares_of_all_runs_in_one_picture(browser, page, runs):
    load(browser, page)
    curves = browser.execute_script(
        "return document.querySelector('#curves').data.map(({name, x, y}) => ({name, x, y}))"
    )
    names = [curve["name"].split(":")[0] for curve in curves]
    assert names == [report.MEAN_SHAPE, "first", "second"]
    for run, curve in zip(runs, curves[1:], strict=True):
        errors = np.sort(errors_of(run).to_numpy().ravel())
        errors = errors[np.isfinite(errors)]
        np.testing.assert_allclose(curve["x"], errors, atol=1e-4)
        shares = 100 * np.arange(1, len(errors) + 1) / len(errors)
        np.testing.assert_allclose(curve["y"], shares)


@pytest.mark.slow
def test_a_cross_validation_is_shown_by_the_models_that_had_not_seen_each_image(
    hands, runs, tmp_path, capsys
):
    out = tmp_path / "folds"
    cross_validate.cross_validate(out, hands, TINY, ("dev", "other"))
    html = tmp_path / "folds.html"
    assert main(["report", str(out), "--out", str(html)]) == 0
    text = html.read_text(encoding="utf-8")
    shown = json.loads(re.search(r'<script type="application/json" id="overview">(.*?)</', text)[1])
    tested = {i for fold in ("dev", "other") for i in hands.fold(fold)[1]}
    assert set(shown["ids"]) == tested and shown["methods"][0] == report.MEAN_SHAPE
    expected = errors_of(out, "").loc[shown["ids"], list(hands.landmarks)].to_numpy()
    np.testing.assert_allclose(np.array(shown["errors"][1], float), expected, atol=1e-3)
    baseline = json.loads((out / "summary.json").read_text())["mean_shape"]["error_mm_mean"]
    assert np.nanmean(np.array(shown["errors"][0], float)) == pytest.approx(baseline, abs=1e-3)
    assert "dev, other" in text
    shutil.copy(runs[0] / "model.keras", out / "other" / "model.keras")
    line = refused(capsys, 1, out, "--out", html)
    assert str(out / "other") in line and "kerasland crossvalidate" in line
    # as `evaluate --out` writes it
    shutil.copytree(runs[0] / "evaluation", tmp_path / "elsewhere")
    assert main(["report", str(tmp_path / "elsewhere"), "--out", str(html)]) == 0


@pytest.mark.slow
def test_a_screen_reader_finds_a_name_for_everything_that_acts(browser, page):
    load(browser, page)
    browser.execute_script("openImage(0)")
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    kinds = {"button", "image", "combobox", "slider", "link", "region", "dialog", "checkbox"}
    acting = [node for node in tree if node.get("role", {}).get("value") in kinds]
    found = {node["role"]["value"] for node in acting}
    assert {"button", "image", "combobox", "dialog"} <= found
    assert not [node for node in acting if not node.get("name", {}).get("value", "").strip()]


@pytest.mark.slow
def test_an_opened_image_shows_points_heatmaps_ellipses_and_names(browser, page, runs, hands):
    from selenium.webdriver import ActionChains

    load(browser, page)
    index = runs_ids(runs[0]).index("hand1")
    browser.execute_script(f"openImage({index})")
    table = pd.read_csv(runs[0] / "evaluation/errors.csv").set_index("image_id").loc["hand1"]
    points = table[["x", "y"]].to_numpy()
    traces = browser.execute_script(
        "return stage.data.map(({x, y, mode}) => ({x: [...x], y: [...y], mode}))"
    )
    marks = [t for t in traces if t["mode"] == "markers" and len(t["x"]) == len(hands.landmarks)]
    annotated, first, second = (np.array([t["x"], t["y"]], float).T for t in marks)
    np.testing.assert_allclose(first, points, atol=0.006)
    truth = hands.points[hands.index(["hand1"])[0]]
    np.testing.assert_allclose(annotated, truth, atol=0.006)
    assert not np.allclose(first, second)
    assert sum(len(t["x"]) > 30 * len(hands.landmarks) for t in traces) == 1  # the ellipses
    find(browser, "#layers [value=ellipses]").click()
    assert len(browser.execute_script("return stage.data")) == len(traces) - 1

    for width in (1000, 1440):
        load(browser, page, width)
        browser.execute_script(f"openImage({index})")
        panel = "document.querySelector('.panel .scroll')"
        shown, there = (
            browser.execute_script(f"return {panel}.{name}Width") for name in ("client", "scroll")
        )
        assert there <= shown  # no column hides behind an edge

    rows = {row.text.rsplit(" ", 3)[0]: row for row in finds(browser, "#points tbody tr")}
    assert "– –" in rows[phantom.LANDMARK_NAMES[7]].text
    pressed = find(browser, "#points [aria-pressed=true]").text
    assert table.set_index("landmark")["error_mm"].idxmax() == pressed
    heatmap = "return stage.layout.images[1].source"
    before = browser.execute_script(heatmap)
    other = next(name for name in phantom.LANDMARK_NAMES[2:] if name != pressed)
    rows[other].find_element("css selector", "button").click()
    assert find(browser, "#points [aria-pressed=true]").text == other
    assert browser.execute_script(heatmap) != before

    k = hands.landmarks.index(other)
    press(browser, "z")
    x, y = browser.execute_script(
        "const {xaxis, yaxis} = stage._fullLayout; const box = stage.getBoundingClientRect();"
        "const at = ofRun().points[arguments[0]];"
        "return [box.x + xaxis.d2p(at[0]), box.y + yaxis.d2p(at[1])]",
        k,
    )
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.perform()
    label = wait_for(browser, "#stage .hovertext")
    assert other in label.text
    ground = label.find_element("css selector", "path").value_of_css_property("fill")
    raised = find(browser, "#close").value_of_css_property("background-color")
    assert ground in raised.replace("rgba", "rgb").replace(", 1)", ")")
    assert_quiet(browser)


def runs_ids(run) -> list[str]:
    return list(pd.read_csv(run / "evaluation/errors.csv")["image_id"].unique())


def wait_for(browser, selector):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 10).until(lambda _: find(browser, selector))


@pytest.mark.slow
def test_correlation_maps_of_the_chosen_run(browser, page, hands):
    load(browser, page)
    browser.execute_script("openImage(1)")
    find(browser, "#correlation summary").click()
    wait_for(browser, "#maps .heatmaplayer")
    maps = "return document.getElementById('maps').data.map((t) => t.z.map((row) => [...row]))"
    for run in (0, 1):
        find(browser, f"#run option[value='{run}']").click()
        predicted, annotated, difference = np.array(browser.execute_script(maps), dtype=float)
        assert predicted.shape == (len(hands.landmarks),) * 2
        np.testing.assert_allclose(np.diag(predicted), 1, atol=1e-4)
        assert np.isnan(annotated[7]).all() and np.isfinite(annotated[8, 9])
        np.testing.assert_allclose(difference, predicted - annotated, atol=1e-6)
        said = float(re.search(r"([\d.]+)\.$", find(browser, "#correlation-note").text).group(1))
        assert said == pytest.approx(np.nanmean(np.abs(difference)), abs=1e-4)
    assert_quiet(browser)


@pytest.mark.slow
def test_light_and_dark_and_narrow(browser, page, tmp_path):
    def ground() -> str:
        return find(browser, "body").value_of_css_property("background-color")

    load(browser, page, width=420, height=850)
    seen = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        seen[scheme] = ground()
        assert (
            find(browser, "#theme").get_attribute("aria-pressed") == str(scheme == "dark").lower()
        )
        ink = find(browser, "#curves .xtitle").value_of_css_property("fill")
        seen[f"{scheme} ink"] = ink
    assert len(set(seen.values())) == 4
    find(browser, "#theme").click()
    assert ground() == seen["light"]
    root = "return document.documentElement"
    widths = [browser.execute_script(f"{root}.{name}Width") for name in ("scroll", "client")]
    assert widths[0] == widths[1] <= 420  # nothing sticks out
    find(browser, "#gallery button").click()
    for shot in ("overview", "opened"):
        path = tmp_path / f"{shot}.png"
        browser.save_screenshot(str(path))
        assert np.asarray(Image.open(path).convert("L")).std() > 20
    assert_quiet(browser)


@pytest.fixture
def touch(browser):
    """Touches a screen: the kind of the event, and where the fingers are."""
    browser.execute_cdp_cmd(
        "Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2}
    )

    def event(kind, *points):
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    yield event
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


@pytest.mark.slow
def test_two_fingers_zoom_about_the_place_between_them(browser, page, touch):
    load(browser, page, width=400, height=800)
    browser.execute_script("openImage(0)")
    chosen = find(browser, "#points [aria-pressed=true]").text
    left, top, width, height = browser.execute_script(
        "const {x, y, width, height} = stage.getBoundingClientRect(); return [x, y, width, height]"
    )
    x, y = left + 0.6 * width, top + 0.4 * height

    def under(x, y) -> np.ndarray:
        """The pixel of the image there."""
        ranges = browser.execute_script(
            "return [stage.layout.xaxis.range, [...stage.layout.yaxis.range].reverse()]"
        )
        at = (x - left) / width, (y - top) / height
        return np.array([low + (high - low) * s for (low, high), s in zip(ranges, at, strict=True)])

    touch("touchStart", (x, y))
    for step in (10, 20, 30):  # one finger pans
        touch("touchMove", (x + step, y))
    before = under(x, y) - (30 * width_shown(browser) / width, 0)
    touch("touchStart", (x + 30, y), (x - 30, y))
    middle = under(x, y)
    np.testing.assert_allclose(middle, before, atol=1)
    for step in (40, 50, 60):
        touch("touchMove", (x + step, y), (x - step, y))
    assert zoom(browser) == 200
    np.testing.assert_allclose(under(x, y), middle, atol=1)
    for step in (10, 20, 30):
        touch("touchMove", (x + 60 + step, y + step), (x - 60 + step, y + step))
    np.testing.assert_allclose(under(x + 30, y + 30), middle, atol=1)
    touch("touchEnd", (x, y))
    touch("touchMove", (x + 50, y))  # one finger stays, and does nothing
    touch("touchEnd")
    time.sleep(0.5)  # after which plotly takes a tap for one
    np.testing.assert_allclose(under(x + 30, y + 30), middle, atol=1)
    assert zoom(browser) == 200 and find(browser, "#points [aria-pressed=true]").text == chosen
    assert_quiet(browser)


@pytest.mark.slow
def test_a_swipe_over_a_chart_scrolls_and_a_tap_opens(browser, page, touch):
    load(browser, page, width=400, height=800)
    browser.execute_script("strip.scrollIntoView()")
    point = wait_for(browser, "#strip .points path")
    box = (
        "const {x, y, width} = arguments[0].getBoundingClientRect(); return [x + width / 2, y + 3]"
    )
    x, y = browser.execute_script(box, point)
    before = browser.execute_script("return scrollY")
    touch("touchStart", (x, y))
    for step in range(1, 9):
        touch("touchMove", (x, y + 20 * step))
    touch("touchEnd")
    assert browser.execute_script("return [scrollY < arguments[0], viewer.open]", before) == [
        True,
        False,
    ]
    time.sleep(0.5)  # sooner it would count as the second tap of two
    browser.execute_script("strip.scrollIntoView()")
    touch("touchStart", browser.execute_script(box, point))
    touch("touchEnd")
    wait_for(browser, "#viewer[open]")
    assert_quiet(browser)


@pytest.mark.slow
def test_the_landmarks_of_many_images_are_boxes_with_the_points_beyond(browser, page, hands):
    load(browser, page)
    drawn = [len(hands.landmarks) - 1, 3 * (len(hands.landmarks) - 1)]  # one is not annotated
    count = "return ['path.box', '.points path'].map((one) => strip.querySelectorAll(one).length)"
    assert browser.execute_script(count) == [2 * number for number in drawn]
    browser.execute_script("overview.points = 'outliers'; drawStrip()")
    assert browser.execute_script(count) == [2 * drawn[0], 0]  # of three, none is far


@pytest.mark.slow
def test_paper_is_light_and_holds_whole_tables(browser, page):
    load(browser, page)
    browser.execute_script("document.documentElement.dataset.theme = 'dark'; applyTheme()")
    shown = (
        "return [curves.querySelector('svg').clientWidth, curves.clientWidth, strip.clientHeight,"
        "getComputedStyle(curves.querySelector('.xtitle')).fill]"
    )
    dark = browser.execute_script(shown)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    width, room, height, ink = browser.execute_script(shown)
    assert width == room < 720 and height == dark[2] and ink != dark[3]
    boxes = finds(browser, "main .scroll")
    assert {box.value_of_css_property("overflow-y") for box in boxes} == {"visible"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(shown) == dark
    browser.execute_script("openImage(0)")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not find(browser, "main").is_displayed() and find(browser, "#points").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert_quiet(browser)


@pytest.mark.slow
def test_few_colours_still_tell_runs_and_the_chosen_landmark(browser, page):
    forced = [{"name": "forced-colors", "value": "active"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": forced})
    load(browser, page)
    colors = browser.execute_script("return curves.data.map(({line}) => line.color)")
    assert len(set(colors)) == 3
    browser.execute_script("openImage(0)")
    grounds = [
        find(browser, f"#points [aria-pressed={pressed}]").value_of_css_property("background-color")
        for pressed in ("true", "false")
    ]
    assert grounds[0] != grounds[1]
    assert find(browser, "html").value_of_css_property("overflow-y") == "hidden"  # behind it
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def sticking_out(browser, within: str) -> list[str]:
    """Elements wider than their place, but for tables in boxes that say that they scroll."""
    return browser.execute_script(
        """
        const told = (box) => box.matches(".scroll") && /Scroll sideways/.test(
          getComputedStyle(box.querySelector("caption span"), "::after").content);
        const seen = [...document.querySelectorAll(arguments[0])].filter((one) =>
          one.checkVisibility() && !one.closest(".unseen, .js-plotly-plot, svg"));
        const inner = (one) => one.clientWidth && one.scrollWidth > one.clientWidth && !told(one);
        const outer = (one) => one.getBoundingClientRect().right > innerWidth
          && !one.parentElement.closest(".scroll.wide");
        return seen.filter((one) => inner(one) || outer(one)).map((one) => one.outerHTML);
        """,
        within,
    )


def overlapping(browser, *selectors: str) -> list[list[str]]:
    """Pairs of elements of a kind that cover each other."""
    return browser.execute_script(
        """
        return [...arguments].flatMap((selector) => {
          const all = [...document.querySelectorAll(selector)]
            .filter((one) => one.checkVisibility());
          const boxes = all.map((one) => one.getBoundingClientRect());
          return boxes.flatMap((a, i) => boxes.slice(i + 1)
            .filter((b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1
              && b.top < a.bottom - 1)
            .map(() => [selector, all[i].textContent]));
        });
        """,
        *selectors,
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_names_of_reproduced_runs_have_room(browser, reproduced, width):
    load(browser, reproduced.page, width)
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
    assert sticking_out(browser, "body *") == []
    if width == 1400 and len(reproduced.names) == 2:
        assert finds(browser, ".scroll.wide") == []
    assert find(browser, "h1").size["height"] < (110 if len(reproduced.names) == 2 else 40)
    assert (
        overlapping(browser, ".legend li", "#gallery .errors > *", "thead th:not(#points *)") == []
    )
    browser.execute_script("openImage(0)")
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
    assert sticking_out(browser, "dialog, dialog *") == []
    assert overlapping(browser, "#runs label", "fieldset", ".bar button") == []
    opened = find(browser, "#viewer-title").text
    for box in finds(browser, ".panel .scroll.wide"):
        browser.execute_script("arguments[0].focus()", box)
        press(browser, "\ue014")  # right: scrolls the table
        assert find(browser, "#viewer-title").text == opened
    headers = finds(browser, "#points thead th")
    assert max(header.size["height"] for header in headers) < 50  # no letter a line
    names = [
        header.find_element("css selector", "button").get_attribute("aria-label")
        for header in headers[1:-1]
    ]
    assert names == [f"{i}: {name}, mm" for i, name in enumerate(reproduced.names, start=1)]
    for i, name in enumerate(reproduced.names):
        assert finds(browser, "#runs label")[i].text.split()[:2] == [str(i + 1), name]
    assert_quiet(browser)


@pytest.mark.slow
def test_every_run_looks_different_and_can_be_hidden(browser, reproduced):
    load(browser, reproduced.page)
    count = len(reproduced.names)
    looks = browser.execute_script("return curves.data.map(({line}) => [line.color, line.dash])")
    marks = browser.execute_script(
        "return strip.data.map(({marker}) => [marker.color, marker.symbol])"
    )
    assert len({tuple(look) for look in looks}) == count + 1  # and the mean shape
    assert len({tuple(mark) for mark in marks}) == count
    assert len({color for color, _ in looks[1:]}) == len({d for _, d in looks[1:]}) == min(count, 4)
    for chart, at in (("curves", count), ("strip", count - 1)):
        button = finds(browser, f"#{chart}-legend button")[at]
        assert button.text.split() == [str(count), reproduced.names[-1]]
        key = button.find_element("css selector", "path")
        paint = key.value_of_css_property("stroke" if chart == "curves" else "fill")
        drawn = (looks if chart == "curves" else marks)[-1][0]
        assert paint == drawn
        for shown in (False, True):
            button.click()
            visible = f"return {chart}.data.map((trace) => trace.visible)"
            assert browser.execute_script(visible) == [True] * at + [shown]
            assert button.get_attribute("aria-pressed") == str(shown).lower()
    browser.execute_script("openImage(0)")
    marked = (
        "return stage.data.filter(({mode, marker}) => mode === 'markers' && marker.size === 7)"
        ".map(({marker}) => [marker.color, marker.symbol])"
    )
    points = browser.execute_script(marked)
    assert len({tuple(point) for point in points}) == len(points) == count
    find(browser, "#runs input").click()
    assert browser.execute_script(marked) == points[1:]
    means = [output.text for output in finds(browser, "#runs output")]
    find(browser, f"#run option[value='{count - 1}']").click()
    said = find(browser, "#viewer-errors").text
    assert said.startswith(f"{reproduced.names[-1]}: mean {means[-1]}, largest ")
    assert_quiet(browser)


def test_sixteen_runs_look_different():
    styles = report._styles(16)
    assert len(set(styles)) == 16
    assert len({color for color, _ in styles[:4]}) == len({form for _, form in styles[:4]}) == 4


@pytest.mark.slow
def test_a_folder_of_runs_names_them(reproduced, tmp_path, capsys):
    for folder in (reproduced.home.parent, reproduced.home):
        line = refused(capsys, 1, folder, "--out", tmp_path / "a.html")
        assert line.startswith(f"error: {folder}: ") and line.endswith(f" {reproduced.home}/*")


def test_a_pattern_names_runs_where_the_shell_leaves_it_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(report_runs, "_read_one", lambda folder, _: folder.name)
    monkeypatch.setattr(report_runs, "_check_pair", lambda *_: None)
    for name in ("b", "a", "c[1]", "c1"):
        (tmp_path / name).mkdir()
    assert report_runs.read([tmp_path / "*"]) == ["a", "b", "c1", "c[1]"]
    assert report_runs.read([tmp_path / "c[1]", f"{tmp_path}/b", "gone*"]) == ["c[1]", "b", "gone*"]


@pytest.mark.slow
def test_the_paired_test_and_the_tables_are_those_of_the_package(page, runs):
    text = page.read_text(encoding="utf-8")
    first, second = (table_files.read_errors(run / "evaluation/errors.csv") for run in runs)
    paired = tables.paired(first, second)
    assert f"<td>{paired['difference_mm_mean']:.3f} mm</td>" in text
    assert f"p = {paired['wilcoxon_p']:.2g}" in text
    sdr, low, high = (paired[f"sdr_2mm_difference{end}"] for end in ("", "_low", "_high"))
    assert f"positive where second is better</th><td>{sdr:.2f} ({low:.2f} to {high:.2f})" in text
    said = re.search(r'<p class="verdict"><b>(.*?):</b>(.*?)</p>', text, re.DOTALL)
    assert said[1] == report_tables.verdict(paired, "second", "mm")
    means = [errors_of(run).mean(axis=1) for run in runs]
    assert f"closer in {(means[1] < means[0]).sum()} of 3 images" in said[2]
    change = errors_of(runs[1]).mean() - errors_of(runs[0]).mean()
    for which, value in (("gain", min(change.min(), 0)), ("loss", max(change.max(), 0))):
        found = re.search(rf"Largest {which}: \S+, (\S+) mm", said[2])
        assert float(found[1]) == pytest.approx(value, abs=0.0051) if value else not found
    for errors in (first, second):
        assert f"{tables.summarize(errors)['error_mm_median']:.2f}</td>" in text
    assert ">mean shape<" in text and "= 50 mm" in text
    assert len(text) < 6_500_000  # of which plotly is 4.8 million


@pytest.mark.parametrize(
    ("low", "high", "p", "images", "verdict"),
    [
        (-0.2, -0.1, 0.04, 6, "b is better on these images"),
        (0.1, 0.2, 0.04, 6, "b is worse on these images"),
        (-0.1, 0.2, 0.04, 6, "These images do not tell them apart"),
        (-0.2, -0.1, 0.05, 6, "These images do not tell them apart"),
        (-0.2, -0.1, 0.06, 5, "Too few images to tell"),
        (np.nan, np.nan, 1.0, 1, "Too few images to tell"),
    ],
)
def test_the_verdict_of_a_comparison(low, high, p, images, verdict):
    paired = {"difference_px_low": low, "difference_px_high": high}
    paired.update(wilcoxon_p=p, images=images)
    assert report_tables.verdict(paired, "b", "px") == verdict


def test_two_seeds_of_one_method_are_called_so():
    def run(notes, **settings):
        return SimpleNamespace(experiment=Experiment(**settings), models={"run": notes})

    one = {"init": None, "train_ids": ["a", "b"]}
    first = run(one, seed=1)
    assert report_tables.differs_by_seed_alone(first, run(dict(one), seed=2))
    for other in (
        run(one, seed=2, epochs=9),
        run({**one, "init": "drawn_hands"}, seed=2),
        run({**one, "train_ids": ["a", "c"]}, seed=2),
    ):
        assert not report_tables.differs_by_seed_alone(first, other)


def test_of_two_methods_that_do_not_differ_none_is_declared_better():
    """Two numbers of one sign have an interval without 0: no winner for that."""
    assert stats.wilcoxon(np.arange(1, report_tables.LEAST_IMAGES)).pvalue > 0.05
    rng, points = np.random.default_rng(0), pd.DataFrame({"image_id": list("abcdefgh")})
    declared = 0
    for _ in range(100):
        a, b = (
            points.assign(landmark="k", error_mm=rng.normal(5, 1, 8), error_px=1.0)
            for _ in range(2)
        )
        declared += " is " in report_tables.verdict(tables.paired(a, b, 500), "b", "mm")
    assert declared <= 8  # p < 0.05


@pytest.mark.slow
def test_pixels_where_no_scale_is_known(browser, tmp_path):
    rng = np.random.default_rng(0)
    data = preparation.write(
        tmp_path / "four",
        name="four",
        landmarks=["3", "1", "10", "2"],
        records=[
            (str(i), rng.integers(0, 255, (80, 60), np.uint8), rng.uniform(5, 50, (4, 2)))
            for i in range(5)
        ],
        folds={"dev": (["0", "1", "2"], ["3", "4"])},
    )
    report.report([untrained(data, TINY, tmp_path / "run")], tmp_path / "report.html")
    load(browser, tmp_path / "report.html")
    assert "errors are in pixels" in find(browser, "header").text
    assert all(re.search(r"largest [\d.]+ px", item.text) for item in finds(browser, "#gallery li"))
    find(browser, "#gallery button").click()
    press(browser, "z")
    assert "px" in find(browser, "#viewer-errors").text and zoom(browser) > 100
    find(browser, "#correlation summary").click()
    wait_for(browser, "#maps .heatmaplayer")
    axes = "return [maps._fullLayout.xaxis, maps._fullLayout.yaxis3].map(({type}) => type)"
    assert browser.execute_script(axes) == ["category"] * 2  # names, though they look like numbers
    assert_quiet(browser)


def refused(capsys, status: int, *args: object) -> str:
    capsys.readouterr()
    assert main(["report", *map(str, args)]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.slow
def test_what_it_refuses(runs, hands, tmp_path, capsys, monkeypatch):
    out = tmp_path / "report.html"
    first, second = runs
    assert "named twice" in refused(capsys, 2, first, first, "--out", out)
    assert "is a folder" in refused(capsys, 2, first, "--out", tmp_path)
    assert "experiment.json" in refused(capsys, 1, tmp_path, "--out", out)

    copy = shutil.copytree(second, tmp_path / "copy")
    shutil.copy(first / "model.keras", copy / "model.keras")
    assert "gives other points" in refused(capsys, 1, copy, "--out", out)

    path = copy / "evaluation/errors.csv"
    table = pd.read_csv(path)
    corrected = table.assign(error_mm=table["error_mm"].where(table["image_id"] != "hand1", 3.0))
    corrected.to_csv(path, index=False)
    line = refused(capsys, 1, first, copy, "--out", out)
    assert f"{copy}: image hand1 was evaluated with another spacing" in line
    assert f"kerasland evaluate {copy}" in line

    table[table["image_id"] != "hand1"].to_csv(path, index=False)
    assert "image hand1" in refused(capsys, 1, first, copy, "--out", out)
    path.unlink()
    line = refused(capsys, 1, copy, "--out", out)
    assert str(path) in line and "kerasland evaluate" in line

    shutil.copytree(second, tmp_path / "old", dirs_exist_ok=True)
    note = tmp_path / "old/evaluation/summary.json"
    summary = json.loads(note.read_text())
    summary["data"]["folder"] = str(tmp_path / "gone")
    note.write_text(json.dumps(summary))
    line = refused(capsys, 1, tmp_path / "old", "--out", out)
    assert str(tmp_path / "gone") in line and "--data" in line
    assert (
        main(["report", str(tmp_path / "old"), "--data", str(hands.folder), "--out", str(out)]) == 0
    )
    out.unlink()

    other = preparation.write(
        tmp_path / "other",
        name="other",
        landmarks=hands.landmarks,
        records=[("a", np.zeros((80, 60), np.uint8), hands.points[0])],
    )
    assert "other data" in refused(capsys, 1, first, "--data", other.folder, "--out", out)
    for scale in ("0.5 mm", None):
        note.write_text(json.dumps({**summary, "scale": scale}))
        assert f"was evaluated with the scale {scale}" in refused(
            capsys, 1, first, tmp_path / "old", "--out", out
        )
    summary["data"]["hash"] = "0"
    note.write_text(json.dumps(summary))
    assert "other data" in refused(capsys, 1, first, tmp_path / "old", "--out", out)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert "kerasland[report]" in refused(capsys, 2, first, "--out", out)
    assert not out.exists()


def test_an_evaluation_of_images_from_elsewhere_may_be_reported(runs, tmp_path):
    run = shutil.copytree(runs[0], tmp_path / "run")
    elsewhere = shutil.copytree(run / "evaluation", run / "evaluation_elsewhere")
    note = elsewhere / "summary.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "subset": "all images"}))
    (read,) = report_runs.read([elsewhere])
    assert (read.folder, read.name) == (run, "evaluation_elsewhere") and list(read.models) == [run]
    assert read.again("x") == f"kerasland evaluate {run} --data x --fold all"
    for subset, chosen in (("given ids", " --ids FILE"), ("fold b", " --fold b"), ("fold dev", "")):
        note.write_text(json.dumps({**json.loads(note.read_text()), "subset": subset}))
        again = report_runs.read([elsewhere])[0].again("x")
        assert again == f"kerasland evaluate {run} --data x{chosen}"

    moved = shutil.copytree(elsewhere, tmp_path / "evaluation_elsewhere")  # no run's
    (read,) = report_runs.read([moved])
    (model,) = read.models
    assert read.folder == moved and model == runs[0].resolve()  # where it was evaluated
    assert read.again("x") == f"kerasland evaluate {model} --data x --out {moved}"
    note = moved / "summary.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "model": "pretrained"}))
    (read,) = report_runs.read([moved])
    assert list(read.models) == ["pretrained"] and read.experiment.shape_prior
    note.write_text(json.dumps({**json.loads(note.read_text()), "model": None}))
    with pytest.raises(DataError, match="does not say of which model it is"):
        report_runs.read([moved])
    note.unlink()
    with pytest.raises(DataError, match="summary.json: missing; .* or evaluate with --out"):
        report_runs.read([moved])

    crossed = shutil.copytree(elsewhere, tmp_path / "evaluation_of_folds")
    shutil.copytree(run, crossed / "one")
    pd.read_csv(crossed / "errors.csv").assign(fold="one").to_csv(crossed / "errors.csv")
    note = crossed / "summary.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "folds": {"one": 3}}))
    (read,) = report_runs.read([crossed])
    assert read.folder == crossed and list(read.models) == [crossed / "one"]
    assert f"kerasland crossvalidate --data x --out {crossed}" in read.again("x")


@pytest.mark.slow
def test_images_that_are_looked_at_again_are_shown_by_that_look(tmp_path, capsys):
    """By the shipped model: a hand as usual, a small one and a turned one."""
    image, points = phantom.hand(4, shape=(350, 250))
    placed = {"usual": (image, points), "small": on_a_plate(image, points, 2.2, 0)}
    placed["turned"] = turned(image, points, 120)
    records = [(name, *pair) for name, pair in placed.items()]
    preparation.write(
        tmp_path / "data",
        name="mine",
        landmarks=phantom.LANDMARK_NAMES,
        records=records,
        scale=Scale(landmarks=(0, 4), length_mm=50.0),
    )
    out = tmp_path / "measured"
    measure = ["evaluate", "pretrained", "--data", str(tmp_path / "data"), "--fold", "all"]
    assert main([*measure, "--out", str(out)]) == 0
    errors = pd.read_csv(out / "errors.csv")
    means = errors.groupby("image_id")["error_mm"].mean()
    assert means.max() < 1.5 * means["usual"]
    html = tmp_path / "report.html"
    assert main(["report", str(out), "--out", str(html)]) == 0, capsys
    assert html.stat().st_size > 100_000

    model = model_files.load_pretrained()
    for name, (picture, _) in placed.items():
        view = localizers.last_view(model)(picture)
        truth = errors[errors["image_id"] == name][["x_true", "y_true"]].to_numpy()
        experiment = Experiment(image_shape=model.input_shape[1:3])
        seen = report_data.look(model, range(37), experiment, picture, truth, view)
        assert (view.turn == 1) == (name != "turned")
        boxes = np.array([heatmap[:4] for heatmap in seen.heatmaps])
        apart = np.linalg.norm(boxes[:, :2] + boxes[:, 2:] / 2 - truth, axis=1)
        assert np.median(apart) < 4  # heatmaps lie on their landmarks


def drawn_heatmap(shape, centre, covariance) -> np.ndarray:
    """(h, w), a Gaussian about (x, y) with a covariance, cells."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    offset = np.stack([x - centre[0], y - centre[1]], axis=-1)
    return np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset))


def test_the_moments_are_those_of_the_heatmap_about_the_point():
    covariance, point = np.array([[2.0, 0.9], [0.9, 1.5]]), np.array([12.3, 20.8])
    attention = drawn_heatmap((40, 30), point, covariance)
    found = report_data.second_moments(attention, point)
    np.testing.assert_allclose(found, (2.0, 0.9, 1.5), rtol=0.02)
    np.testing.assert_allclose(
        report_data.second_moments(attention + 1e-4, point), found, rtol=0.02
    )
    apart = np.array([12.0, -15.0])  # a second place, half as high: a third of the mass
    two = attention + drawn_heatmap((40, 30), point + apart, covariance) / 2
    expected = np.array(found) + (144 / 3, -180 / 3, 225 / 3)
    np.testing.assert_allclose(report_data.second_moments(two, point), expected, rtol=0.02)


@pytest.mark.parametrize(
    "view",
    [View((400, 200), 1, 0j), View((400, 200), 1, 30 + 20j), View((400, 200), np.exp(0.6j), 230j)],
    ids=["whole", "part", "turned"],
)
def test_what_is_seen_of_an_image_is_in_its_own_pixels(view):
    """A view of 400 x 200 in a frame of 64 x 48: 6.25 pixels a pixel of the frame."""
    frame_shape, points = (64, 48), np.array([[60.0, 100.0], [150, 310]])
    scale, shift = 64 / 400, (48 - 200 * 64 / 400) / 2
    in_frame = (points + 0.5) * scale + (shift, 0) - 0.5
    cells = (in_frame + 0.5) / 2 - 0.5
    logits = np.stack(
        [np.log(drawn_heatmap((32, 24), c, np.diag([2.0, 1.0])) + 1e-9) for c in cells], -1
    )
    outputs = {"heatmaps": logits[None].astype("float32"), "landmarks": in_frame[None]}
    model = SimpleNamespace(
        input_shape=(None, *frame_shape, 1),
        predict_on_batch=lambda frames: outputs,
        layers=[HeatmapDecoder(frame_shape)],
    )
    points = view.invert(points)
    truth = points + (3, 0)
    truth[1] = np.nan
    image = np.random.default_rng(0).integers(0, 255, (700, 600), np.uint8)
    seen = report_data.look(model, range(len(truth)), TINY.replace(maps="none"), image, truth, view)
    np.testing.assert_allclose(seen.points, points, atol=1e-6)
    cell_px, c, s = 2 / scale, np.real(view.turn), np.imag(view.turn)
    rotation = np.array([[c, -s], [s, c]])
    (xx, xy), (_, yy) = cell_px**2 * rotation @ np.diag([2.0, 1.0]) @ rotation.T
    np.testing.assert_allclose(seen.spreads[0], (xx, xy, yy), rtol=0.01, atol=0.5)
    for (x, y, width, height, png), (true_x, true_y) in zip(seen.heatmaps, points, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(png)))
        assert width == pytest.approx(picture.width * cell_px)
        assert height == pytest.approx(picture.height * cell_px)
        level = np.square(np.asarray(picture, dtype=float))
        rows, columns = np.mgrid[: picture.height, : picture.width]
        # the middle of cell 0 is half a cell from the corner
        centre = [(np.average(at, weights=level) + 0.5) * cell_px for at in (columns, rows)]
        assert x + centre[0] == pytest.approx(true_x, abs=2)
        assert y + centre[1] == pytest.approx(true_y, abs=2)
    annotated = np.frombuffer(base64.b64decode(seen.annotated), "<f4").reshape(2, 2)
    assert annotated[0, 0] == pytest.approx(1, abs=1e-4) and np.isnan(annotated[1]).all()


def test_runs_in_another_order_are_compared_image_by_image():
    rows = [(i, k, 3.0 + i + k) for i in range(4) for k in range(2)]
    first = pd.DataFrame(rows, columns=["image_id", "landmark", "error_px"])
    first = first.assign(error_mm=np.nan)
    other = first.assign(error_px=first["error_px"] - [1, 1, 1, 1, -1, -1, -1, -1])[::-1]
    runs = (
        SimpleNamespace(errors=errors, name=name, experiment=Experiment(), models={})
        for errors, name in ((first, "a"), (other, "b"))
    )
    found = report_tables.comparison(*runs, "px")
    assert found["closer"] == 2 and found["paired"]["images"] == 4
