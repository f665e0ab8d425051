"""The statistics of the field, against numbers by hand and slow oracles."""

import math
import re

import naive
import numpy as np
import pandas as pd
import pytest

from kerasland import point_errors, preparation, table_files, tables
from kerasland.errors import DataError
from kerasland.models import unet

NAN = math.nan


def errors_table(rows, seeds=None):
    """`rows`: (image_id, landmark, error_px, error_mm)."""
    table = pd.DataFrame(
        [(i, k, e, 0.0, 0.0 if math.isfinite(e) else NAN, 0.0, e, m, 0.5) for i, k, e, m in rows],
        columns=list(tables.ERROR_COLUMNS),
    )
    return table if seeds is None else table.assign(seed=seeds)


def clustered(rng, images=30, landmarks=10, spread_mm=0.5):
    """Errors whose level belongs to the image, as with a blurred or turned hand."""
    level = rng.normal(2.0, spread_mm, images)
    mm = level[:, None] + rng.normal(0, 0.05, (images, landmarks))
    return errors_table(
        [(f"{i}", f"{k}", 4 * mm[i, k], mm[i, k]) for i in range(images) for k in range(landmarks)]
    )


@pytest.fixture
def by_hand():
    return errors_table(
        [
            ("a", "tip", 10.0, 1.0),
            ("a", "base", 20.0, 2.0),
            ("b", "tip", 30.0, 3.0),
            ("b", "base", NAN, NAN),
            ("c", "tip", 100.0, 11.0),
            ("c", "base", 40.0, 4.0),
        ]
    )


def test_summary_by_hand(by_hand):
    summary = tables.summarize(by_hand, samples=200)
    assert summary["error_mm_median"] == 3.0
    assert summary["error_mm_mean"] == pytest.approx(4.2)  # 21 / 5
    assert summary["error_mm_sd"] == pytest.approx(math.sqrt(62.8 / 5))
    assert (summary["outliers_2mm"], summary["outliers_4mm"], summary["outliers_10mm"]) == (3, 1, 1)
    assert [summary[f"sdr_{r}"] for r in ("2mm", "2_5mm", "3mm", "4mm", "10mm")] == pytest.approx(
        [40, 40, 60, 80, 80]
    )
    assert summary["ipe_mm_mean"] == pytest.approx((1.5 + 3.0 + 7.5) / 3)
    assert summary["ipe_mm_sd"] == pytest.approx(math.sqrt((6.25 + 1.0 + 12.25) / 3))
    assert (summary["error_px_median"], summary["error_px_mean"]) == (30.0, 40.0)
    assert summary["error_px_sd"] == pytest.approx(math.sqrt(1000))
    assert (summary["points"], summary["images"], summary["seeds"]) == (5, 3, 1)


def test_an_error_on_the_threshold_is_no_outlier():
    radii = tables.THRESHOLDS_MM
    table = errors_table([("a", f"{r}", r, r) for r in radii])
    table = pd.concat([table, errors_table([("b", "1", 2.0, np.nextafter(2.0, 3.0))])])
    summary = tables.summarize(table, samples=10)
    assert summary["outliers_2mm"] == 5
    assert summary["outliers_10mm"] == 0
    assert summary["sdr_10mm"] == 100.0


@pytest.mark.parametrize("with_seeds", [False, True])
def test_summary_against_loops(with_seeds):
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(2 if with_seeds else 1):
        for i in range(12):
            for k in range(7):
                mm = rng.gamma(1.5, 2.0) if rng.random() > 0.2 else NAN
                rows.append((f"{i}", f"{k}", 10 * mm, mm))
    table = errors_table(rows, np.repeat([3, 8], 84) if with_seeds else None)
    table = table.sample(frac=1.0, random_state=0)
    summary, expected = tables.summarize(table, samples=300, seed=5), naive.statistics(table)
    for key in ("error_mm_median", "error_mm_mean", "error_mm_sd", "ipe_mm_mean", "ipe_mm_sd"):
        assert summary[key] == pytest.approx(expected[key], rel=1e-12), key
    for r in (2, 4, 10):
        assert summary[f"outliers_{r}mm"] == expected["outliers"][r]
    for r in tables.THRESHOLDS_MM:
        share = 100 - 100 * expected["outliers"][r] / expected["points"]
        assert summary[f"sdr_{r:g}mm".replace(".", "_")] == pytest.approx(share)
    assert summary["points"] == expected["points"]
    assert (summary["images"], summary["seeds"]) == (12, 2 if with_seeds else 1)
    limits = (summary["error_mm_mean_low"], summary["error_mm_mean_high"])
    assert limits == pytest.approx(naive.bootstrap_over_images(table, 300, 5), rel=1e-12)
    for key in ("error_{}_mean_low", "error_{}_mean_high", "ipe_{}_mean", "ipe_{}_sd"):
        assert summary[key.format("px")] == pytest.approx(10 * summary[key.format("mm")]), key


def test_bootstrap_in_several_chunks_is_the_same():
    table = clustered(np.random.default_rng(0))
    before = tables.summarize(table, samples=40_000, seed=1)  # 30 images: two chunks
    low, high = naive.bootstrap_over_images(table, 2_000, 1)
    assert before["error_mm_mean_low"] == pytest.approx(low, abs=0.02)
    assert before["error_mm_mean_high"] == pytest.approx(high, abs=0.02)
    assert before == tables.summarize(table, samples=40_000, seed=1)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        summary = tables.summarize(clustered(rng, images=40, landmarks=3), samples=400)
        covered += summary["error_mm_mean_low"] <= 2.0 <= summary["error_mm_mean_high"]
    assert 0.88 <= covered / 200 <= 0.99


def test_images_are_resampled_not_points():
    table = clustered(np.random.default_rng(2), images=40, landmarks=25)
    summary = tables.summarize(table, samples=1000)
    width = summary["error_mm_mean_high"] - summary["error_mm_mean_low"]
    low, high = naive.bootstrap_over_points(table, 1000, 0)
    assert width == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.3)
    assert width > 3 * (high - low)  # points alone would claim about 5 times too much


def test_seeds_of_an_image_travel_together():
    one = clustered(np.random.default_rng(3))
    three = pd.concat([one.assign(seed=s) for s in range(3)])
    a, b = tables.summarize(one), tables.summarize(three)
    assert b["error_mm_mean_low"] == pytest.approx(a["error_mm_mean_low"])
    assert b["error_mm_mean_high"] == pytest.approx(a["error_mm_mean_high"])
    assert (b["points"], b["images"], b["seeds"]) == (3 * a["points"], a["images"], 3)


def test_unknown_millimetres_are_nan_and_pixels_stay(by_hand):
    summary = tables.summarize(by_hand.assign(error_mm=NAN))
    assert summary["error_px_mean"] == 40.0
    assert summary["points"] == 5
    assert all(math.isnan(v) for k, v in summary.items() if "mm" in k)


def test_one_image_gives_no_interval(by_hand):
    summary = tables.summarize(by_hand[by_hand.image_id == "a"])
    assert summary["error_mm_mean"] == 1.5
    assert math.isnan(summary["error_mm_mean_low"])


def test_per_landmark_by_hand(by_hand):
    table = tables.per_landmark(by_hand).set_index("landmark")
    assert list(table.index) == ["tip", "base"]
    tip, base = table.loc["tip"], table.loc["base"]
    assert (tip.points, base.points) == (3, 2)
    assert (tip.error_mm_median, tip.error_mm_mean, tip.error_mm_max) == (3.0, 5.0, 11.0)
    assert tip.error_mm_sd == pytest.approx(math.sqrt((16 + 4 + 36) / 3))
    assert (tip.sdr_2mm, tip.outliers_10mm) == (pytest.approx(100 / 3), 1)
    assert (base.sdr_2mm, base.outliers_10mm, base.error_px_mean) == (50.0, 0, 30.0)


def test_paired_by_hand_and_against_every_sign():
    difference = [0.5, -0.2, 0.9, 0.4, 1.1, 0.3, -0.1]
    a = errors_table([(f"{i}", k, 9.0, 2.0) for i in range(7) for k in "uv"])
    b = errors_table(
        [
            (f"{i}", k, 9.0, 2.0 + d + s)
            for i, d in enumerate(difference)
            for k, s in zip("uv", (0.05, -0.05), strict=True)
        ]
    )
    result = tables.paired(a, b.sample(frac=1.0, random_state=0))
    assert result["difference_mm_mean"] == pytest.approx(2.9 / 7)
    assert result["difference_mm_low"] < 2.9 / 7 < result["difference_mm_high"]
    assert result["wilcoxon_p"] == pytest.approx(naive.signed_rank_p(np.array(difference)))
    assert result["images"] == 7
    back = tables.paired(b, a)
    assert back["difference_mm_mean"] == pytest.approx(-2.9 / 7)
    assert back["difference_mm_low"] == pytest.approx(-result["difference_mm_high"], abs=0.02)


def test_paired_averages_the_seeds_first():
    a = errors_table([("1", "u", 1.0, 1.0), ("2", "u", 1.0, 2.0)])
    b = errors_table(
        [("1", "u", 1.0, 1.0), ("2", "u", 1.0, 2.0), ("1", "u", 1.0, 3.0), ("2", "u", 1.0, 2.0)],
        seeds=[0, 0, 1, 1],
    )
    assert tables.paired(a, b)["difference_mm_mean"] == pytest.approx(0.5)


def test_paired_compares_the_points_within_2_mm():
    """Image by image, and of every seed, not of the mean over seeds."""
    a = errors_table([(f"{i}", k, 1.0, 2.0) for i in range(4) for k in "uv"])
    b = errors_table(
        [(f"{i}", k, 1.0, 2.5 if i == 0 and k == "u" else 1.0) for i in range(4) for k in "uv"] * 2,
        seeds=[0] * 8 + [1] * 8,
    )
    b.loc[8, "error_mm"] = 1.0
    result = tables.paired(a, b)
    assert result["sdr_2mm_difference"] == pytest.approx(-25 / 4)
    assert result["sdr_2mm_difference_low"] < -25 / 4 < result["sdr_2mm_difference_high"] == 0


def test_paired_tables_say_which_way_is_better(by_hand, tmp_path):
    better = by_hand.assign(error_mm=by_hand["error_mm"] - 0.5)
    row = {"method": "b - a", **tables.paired(by_hand, better)}
    table_files.write_table(pd.DataFrame([row]), tmp_path / "paired", "Two runs.")
    text = (tmp_path / "paired.md").read_text(encoding="utf-8")
    assert "better where below 0 in mm, above 0 in SDR" in text
    assert "| -0.500 (-0.500 to -0.500) |" in text
    latex = (tmp_path / "paired.tex").read_text(encoding="utf-8")
    assert "-0.500 (-0.500 to -0.500) & " in latex
    row |= {"difference_mm_mean": -1e-4, "difference_mm_low": -2e-4, "difference_mm_high": 1e-4}
    table_files.write_table(pd.DataFrame([row]), tmp_path / "paired", "Two runs.")
    text = (tmp_path / "paired.md").read_text(encoding="utf-8")
    assert " +0.000 (0.000 to 0.000) |" in text


def test_without_millimetres_a_reader_has_pixels(by_hand, tmp_path):
    known = by_hand.assign(error_mm=NAN)
    better = known.assign(error_px=known["error_px"] - 5)
    assert (tables.unit_of(by_hand), tables.unit_of(known)) == ("mm", "px")
    row = {"method": "b - a", **tables.paired(known, better, unit="px")}
    assert row["difference_px_mean"] == -5.0 and not [key for key in row if "mm" in key]
    table_files.write_table(pd.DataFrame([row]), tmp_path / "paired", "Two runs.")
    text = (tmp_path / "paired.md").read_text(encoding="utf-8")
    assert " -5.00 (-5.00 to -5.00) |" in text and "better where below 0. CI" in text
    for errors, shown in ((known, True), (by_hand, False)):
        table_files.write_table(pd.DataFrame([tables.summarize(errors)]), tmp_path / "t", "Pixels.")
        text = (tmp_path / "t.md").read_text(encoding="utf-8")
        assert ("IPE mean ± SD, px" in text) == ("95 % CI, px" in text) == shown
        assert "CI: of the mean, bootstrap over images" in text


def test_paired_without_a_difference(by_hand):
    result = tables.paired(by_hand, by_hand)
    assert result == {
        "difference_mm_mean": 0.0,
        "difference_mm_low": 0.0,
        "difference_mm_high": 0.0,
        "wilcoxon_p": 1.0,
        "sdr_2mm_difference": 0.0,
        "sdr_2mm_difference_low": 0.0,
        "sdr_2mm_difference_high": 0.0,
        "images": 3,
    }


def test_points_and_images_are_those_of_the_millimetres_beside_them(by_hand):
    unscaled = by_hand.assign(error_mm=by_hand["error_mm"].where(by_hand["image_id"] != "c"))
    summary = tables.summarize(unscaled, samples=10)
    assert (summary["points"], summary["images"]) == (3, 2)
    assert tables.per_landmark(unscaled)["points"].tolist() == [2, 1]


def test_where_most_scales_are_unknown_a_reader_has_pixels(by_hand):
    """Else a mean over a few images would stand beside the number of all."""
    few = by_hand.assign(error_mm=by_hand["error_mm"].where(by_hand["image_id"] == "b"))
    assert (tables.unit_of(few), tables.scale_unknown(few)) == ("px", 2)
    summary = tables.summarize(few, samples=10)
    assert (summary["points"], summary["images"]) == (5, 3)
    of_landmarks = tables.per_landmark(few)
    for table in (pd.DataFrame([summary]), of_landmarks):
        of_mm = [name for name in table if "mm" in name]
        assert table[of_mm].isna().all(axis=None) and table["error_px_mean"].notna().all()
    assert list(of_landmarks["points"]) == [3, 2]
    assert tables.scale_unknown(by_hand) == 0
    assert tables.scale_unknown(by_hand.assign(error_mm=NAN)) == 0


def test_of_several_trainings_each_point_has_a_seed(by_hand):
    """Else each training counts as if its points were others of the same images."""
    two = pd.concat([by_hand, by_hand.assign(error_mm=by_hand["error_mm"] + 1)])
    for compare in (tables.summarize, lambda errors: tables.paired(by_hand, errors)):
        with pytest.raises(DataError, match="landmark tip occurs more than once; .*column `seed`"):
            compare(two)
    two["seed"] = np.repeat([3, 4], len(by_hand))
    assert tables.summarize(two, samples=10)["seeds"] == 2
    mean = by_hand["error_mm"].mean()
    assert tables.of_seeds(two) == {3: pytest.approx(mean), 4: pytest.approx(mean + 1)}
    again = two.assign(error_mm=two["error_mm"] * [*[1] * len(by_hand), *[2] * len(by_hand)])
    assert tables.of_seeds(two, again) == {3: 0, 4: pytest.approx(mean + 1)}


def test_of_one_image_there_is_a_difference_without_interval(tmp_path, by_hand):
    one = by_hand[by_hand["image_id"] == "a"]
    row = tables.paired(one, one.assign(error_mm=one["error_mm"] + 0.25))
    table_files.write_table(pd.DataFrame([row]), tmp_path / "paired", "One image.")
    text = (tmp_path / "paired.md").read_text(encoding="utf-8")
    assert re.search(r"\| \+0\.250 +\| +1 \| +-50\.00 \|", text) and "nan" not in text


def test_paired_names_what_is_missing(by_hand):
    with pytest.raises(DataError, match="second .* lacks 2 .* image b, landmark tip; image c"):
        tables.paired(by_hand, by_hand.drop(index=[2, 4]))
    with pytest.raises(DataError, match="first .* lacks 1 .* image a, landmark base"):
        tables.paired(by_hand.drop(index=1), by_hand)
    with pytest.raises(DataError, match="an error in mm"):
        tables.paired(by_hand.assign(error_mm=NAN), by_hand.assign(error_mm=NAN))


def test_read_errors_keeps_names_and_numbers(tmp_path, by_hand):
    path = tmp_path / "errors.csv"
    table = by_hand.assign(image_id=["007", "007", "NA", "NA", "1e3", "1e3"], seed=[0] * 6)
    table["x"] = np.random.default_rng(0).normal(1000, 300, 6)
    table.to_csv(path, index=False)
    read = table_files.read_errors(path)
    assert list(read.image_id) == list(table.image_id)
    pd.testing.assert_frame_equal(read, table, check_dtype=False, check_exact=True)


def test_read_errors_says_what_is_wrong(tmp_path, by_hand):
    path = tmp_path / "errors.csv"
    cases = [
        (by_hand.drop(columns=["error_mm", "x"]), "lacks the column.s. x, error_mm"),
        (by_hand.astype({"y": object}).assign(y=[0, 0, "left", 0, 0, 0]), "row 3, y: 'left'"),
        (by_hand[:0], "errors.csv: holds no errors; evaluate again"),
        (pd.concat([by_hand, by_hand[:1]]), "image_id a, landmark tip occurs more than once"),
    ]
    for table, message in cases:
        table.to_csv(path, index=False)
        with pytest.raises(DataError, match=message) as caught:
            table_files.read_errors(path)
        assert "\n" not in str(caught.value)
    path.write_text("")
    for wrong in (path, tmp_path / "absent.csv"):
        with pytest.raises(DataError, match=wrong.name):
            table_files.read_errors(wrong)


@pytest.fixture
def ablation(by_hand):
    rows = [
        {"method": method, **tables.summarize(by_hand), "minutes": minutes, "parameters": size}
        for method, minutes, size in (
            ("mean_shape", NAN, 0),
            ("50% & a|b_{c} #1 $x$ ~^\\", 12.345, 1_234_567),
        )
    ]
    return pd.DataFrame(rows)


def test_csv_holds_every_digit(tmp_path, ablation):
    table_files.write_table(ablation, tmp_path / "run.v2", "A caption.")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.v2.csv", "run.v2.md", "run.v2.tex"]
    read = pd.read_csv(tmp_path / "run.v2.csv", dtype=str, keep_default_na=False)
    assert list(read) == list(ablation)
    assert list(read.method) == list(ablation.method)
    for column in ablation.columns[1:]:
        values = [float(text or "nan") for text in read[column]]
        np.testing.assert_array_equal(values, ablation[column])


def test_markdown_parses_back(tmp_path, ablation):
    table_files.write_table(ablation, tmp_path / "t", "Wrist: 50 mm.")
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    first, second = naive.markdown_table(text)
    assert text.startswith("Wrist: 50 mm. ") and "error > r mm" in text.splitlines()[0]
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1  # aligned
    assert second["Method"] == ablation.method[1]
    assert first["PE mean ± SD, mm"] == "4.20 ± 3.54"
    assert first["PE median, mm"] == "3.00"
    low, high = map(float, first["95 % CI"].split(" – "))
    assert low == pytest.approx(ablation.error_mm_mean_low[0], abs=5e-3)
    assert high == pytest.approx(ablation.error_mm_mean_high[0], abs=5e-3)
    assert (first["#O2 (%)"], first["#O10 (%)"]) == ("3 (60.00)", "1 (20.00)")
    assert [first[f"SDR {r} mm, %"] for r in ("2", "2.5", "3", "4", "10")] == [
        *("40.00", "40.00", "60.00", "80.00", "80.00")
    ]
    assert (first["Points"], first["Images"], first["Seeds"]) == ("5", "3", "1")
    assert (first["Minutes"], first["Parameters"]) == ("–", "0")
    assert (second["Minutes"], second["Parameters"]) == ("12.3", "1,234,567")


def test_latex_is_balanced_and_escaped(tmp_path, ablation):
    table_files.write_table(ablation, tmp_path / "t", "5 % of a_b & c.")
    text = (tmp_path / "t.tex").read_text(encoding="utf-8")
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", text)) == ["table", "tabular"]
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert text.isascii()
    assert r"50\% \& a|b\_\{c\} \#1 \$x\$ \textasciitilde{}\textasciicircum{}" in text
    assert r"5 \% of a\_b \& c." in text
    columns = len(re.search(r"\\begin\{tabular\}\{(l?r+)\}", text)[1])
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows] == [columns] * 2
    top = next(line for line in text.splitlines() if r"\multicolumn" in line)
    spans = [int(n) for n in re.findall(r"multicolumn\{(\d+)\}", top)]
    assert len(re.findall(r"(?<!\\)&", top)) + 1 + sum(spans) - len(spans) == columns


def test_per_landmark_and_unknown_columns_are_shown(tmp_path, by_hand):
    table = tables.per_landmark(by_hand).assign(note=["x", "y"])
    table_files.write_table(table, tmp_path / "t", "Caption.")
    tip, base = naive.markdown_table((tmp_path / "t.md").read_text(encoding="utf-8"))
    assert (tip["Landmark"], tip["PE max, mm"], tip["#O10 (%)"]) == ("tip", "11.00", "1 (33.33)")
    assert (base["note"], base["SDR 2 mm, %"]) == ("y", "50.00")


def test_what_no_row_knows_is_left_out(tmp_path, by_hand):
    table = tables.per_landmark(by_hand.assign(error_mm=NAN))
    table_files.write_table(table, tmp_path / "t", "Caption.")
    rows = naive.markdown_table((tmp_path / "t.md").read_text(encoding="utf-8"))
    assert list(rows[0]) == ["Landmark", "PE mean, px", "Points"]


def test_a_guess_that_does_not_look_is_the_mean_of_the_training_images(tmp_path):
    """In a common frame: what is twice as large has its points at twice the place."""
    points = np.random.default_rng(0).uniform(0, 29, (4, 3, 2))
    points[1, 1], points[1:, 2] = NAN, NAN  # known in two of three training images, and in none
    sizes, records = (3, 1, 2, 1), []
    for k, size in enumerate(sizes):
        image = np.full((40 * size, 30 * size), k, np.uint8)
        records.append((f"im{k}", image, (points[k] + 0.5) * size - 0.5))
    data = preparation.write(tmp_path, name="sizes", landmarks=tuple("abc"), records=records)
    found = point_errors.mean_shape_errors(data, ("im1", "im2", "im3"), ("im0",))
    mean = np.array([points[1:, 0].mean(axis=0), points[2:, 1].mean(axis=0), (NAN, NAN)])
    np.testing.assert_allclose(found[["x", "y"]], (mean + 0.5) * 3 - 0.5)
    wanted = 3 * np.linalg.norm(mean - points[0], axis=-1)
    np.testing.assert_allclose(found["error_px"], wanted)
    assert list(found["landmark"]) == list("abc") and set(found["image_id"]) == {"im0"}
    assert found["confidence"].isna().all()


def test_images_that_were_trained_on_are_known_by_their_pixels(tmp_path):
    records = [(f"im{k}", np.full((4, 3), k, np.uint8), np.ones((1, 2))) for k in range(3)]
    data = preparation.write(tmp_path, name="three", landmarks=("a",), records=records)
    notes = {"pixel_hashes": [data.pixel_hashes["im2"], "of another"]}
    assert point_errors.trained_on(data, notes) == {"im2"}


def test_landmarks_are_found_by_their_names_or_refused(tmp_path):
    records = [("im0", np.zeros((32, 24), np.uint8), np.ones((2, 2)))]
    data = preparation.write(tmp_path / "two", name="2", landmarks=("a", "b"), records=records)
    models = {names: unet(list(names), (16, 16), width=2, depth=2) for names in ("ab", "cba", "a")}
    assert point_errors.landmark_places(models["ab"], data) == [0, 1]
    assert point_errors.landmark_places(models["cba"], data) == [2, 1]
    with pytest.raises(DataError, match="two: landmark 'b' is none of the 1 of the model, .* 'a'"):
        point_errors.landmark_places(models["a"], data)
