"""The verbs as a user meets them: what they print, refuse and leave behind."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kerasland import (
    arguments,
    evaluate,
    experiment,
    localizers,
    machine,
    model_files,
    overlays,
    point_errors,
    preparation,
    prepared,
    synthetic,
    table_files,
    train,
)
from kerasland.__main__ import main
from kerasland.images import read_image
from kerasland.scale import Scale

SMALL = ["image_shape=64x48", "width=8", "max_width=16", "depth=3", "epochs=1"]
SMALL += ["validation_images=2", "sigma_px=1.5"]


def kerasland(*args: object, **more: object) -> subprocess.CompletedProcess:
    """In a process of its own, which has `more` in its environment."""
    command = [sys.executable, "-m", "kerasland", *map(str, args)]
    env = {**os.environ, **{key: str(value) for key, value in more.items()}}
    return subprocess.run(command, capture_output=True, text=True, env=env)


BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # Python writes it, as it does unless told not to


@pytest.fixture
def temporary(tmp_path):
    """A folder for temporary files, of which none may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield folder
    assert not list(folder.iterdir())


SCRIPT = """
import sys
from kerasland import __main__
__main__.main = lambda: print("x" * 9) or int(sys.argv[1])
__main__.script()
"""


@pytest.mark.parametrize("status", [0, 2])
def test_the_script_leaves_with_the_status_and_all_that_was_said(status):
    command = [sys.executable, "-c", SCRIPT, str(status)]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, capture_output=True, text=True, env=buffered)
    assert (done.returncode, done.stdout, done.stderr) == (status, "xxxxxxxxx\n", "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert done.returncode == max(status, 1) and "No space left" in done.stderr


def test_ctrl_c_ends_a_loop_of_the_shell():
    done = subprocess.run([sys.executable, "-c", SCRIPT, "130"], capture_output=True)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, b"xxxxxxxxx\n")


CLOSED = """
import sys
from kerasland import command

def work():
    print("x", file=sys.stderr)
    sys.stdout.flush()
    with open("/dev/null") as file:
        assert file.fileno() > 2

sys.exit(command.run(work))
"""


def test_streams_that_are_closed():
    """As in a service: nobody hears, and no other file gets the numbers of stdout and stderr."""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(CLOSED)} <&- >&- 2>&-"
    assert subprocess.run(command, shell=True).returncode == 0


@pytest.mark.parametrize(
    ("verb", "made", "asked"),
    [("report", "a.html", []), ("export", "a.onnx", []), ("predict", "found", [True])],
)
def test_onednn_is_for_verbs_that_compute_several_images_at_once(
    tmp_path, monkeypatch, verb, made, asked
):
    """One image at a time takes it far longer than TensorFlow's own kernels, without AVX512."""
    calls = []
    monkeypatch.setattr(machine, "compute_with_onednn", lambda: calls.append(True))
    (tmp_path / "neither").touch()  # neither an image nor a model
    assert main([verb, str(tmp_path / "neither"), "--out", str(tmp_path / made)]) == 1
    assert calls == asked


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("cli") / "hands", 12, shape=(140, 100))


@pytest.fixture(scope="module")
def run(hands):
    path = hands.folder.parent / "run"
    args = ["train", "--data", hands.folder, "--fold", "dev", "--out", path, "--set", *SMALL]
    assert main([str(arg) for arg in args]) == 0
    return path


def refused(capsys, status: int, *args: object) -> str:
    """The single line that a command says before it exits with `status`."""
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == status
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0]


def copied(hands, tmp_path):
    folder = tmp_path / "hands"
    shutil.copytree(hands.folder, folder)
    return folder


VERBS = re.findall(r"^ {4}(\w+)(?= |$)", arguments.parser().format_help(), flags=re.MULTILINE)


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS)])
def test_help_says_what_to_do_by_an_example_that_parses(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "usage: kerasland" in text
    example = re.search(r"^example:\n  kerasland (.*)", text, flags=re.MULTILINE)[1].split()
    assert not verb or example[0] == verb[0]
    if verb == ["train"]:  # settings as they are given
        assert re.search(r"^  image_shape=512x384: ", text, flags=re.MULTILINE)
    assert arguments.parser().parse_args(example).verb


def test_what_to_type_is_quoted_for_every_shell():
    """Of single quotes cmd.exe of Windows knows nothing."""
    package = Path(arguments.__file__).parent
    code = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    typed = re.findall(r"""['"](?:kerasland\[\w+\]|\S+/\*\*\S*?)['"]""", code)
    assert len(typed) >= 8 and not [text for text in typed if "'" in text]


def test_all_verbs_are_asked_for_help():
    assert {"reproduce", "train", "crossvalidate", "evaluate", "predict", "export"} <= set(VERBS)


def test_help_does_not_start_tensorflow():
    code = (
        "import sys\nfrom kerasland.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0


REFUSED = [
    "train --data no --out run --init pretrained --set widht=16",
    "train --data no --out run --init nowhere",
    "evaluate nowhere --data no",
    "predict no.png --out found",
    "predict a.png --out found --model nowhere",
    "export nowhere --out a.onnx",
    "report nowhere --out a.html",
]


def test_mistakes_are_told_before_tensorflow_starts(tmp_path):
    (tmp_path / "a.png").touch()
    code = (
        "import sys\nfrom kerasland.__main__ import main\n"
        f"for line in {REFUSED}:\n"
        "  assert main(line.split()) and 'tensorflow' not in sys.modules, line"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = ["width", "nowhere", "nowhere", "no.png", "nowhere", "nowhere", "nowhere"]
    for line, word in zip(done.stderr.splitlines(), told, strict=True):
        assert line.startswith("error: ") and word in line


def test_unknown_option_is_usage():
    assert kerasland("train", "--dataa", "x").returncode == 2
    assert kerasland().returncode == 2


def test_errors_come_without_traceback_from_a_real_process(tmp_path):
    done = kerasland("train", "--data", tmp_path / "none", "--out", tmp_path / "run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(tmp_path / "none") in done.stderr.splitlines()[-1]
    shown = kerasland("train", "--data", tmp_path / "none", "--out", tmp_path / "run", "--debug")
    assert "Traceback" in shown.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epoch=3", ["'epoch'", "epochs"]),
        ("colour=red", ["'colour'"]),
        ("epochs=many", ["epochs=many", "int"]),
        ("epochs=0", ["epochs=0"]),
        ("epochs", ["epochs", "key=value"]),
        ("maps=spherical", ["maps='spherical'", "polar"]),
        ("image_shape=100x100", ["(100, 100)", "64"]),
        ("dropout=1.5", ["dropout=1.5"]),
        ("learn_beta=perhaps", ["learn_beta=perhaps", "bool"]),
        ("depth=99999", ["depth=99999", "[1, 17)"]),
        ("stem_stride=0", ["stem_stride=0"]),
        ("output_stride=16", ["output_stride=16"]),
        ("seed=-1", ["seed=-1"]),
        ("seed=20261125", ["seed=20261125", "at most"]),
        ("noise=nan", ["noise=nan"]),
        ("heatmap_loss=squared_error", ["beta=1.0", "beta=15"]),
    ],
)
def test_settings_that_cannot_be_meant(hands, tmp_path, capsys, setting, words):
    out = tmp_path / "run"
    line = refused(capsys, 2, "train", "--data", hands.folder, "--out", out, "--set", setting)
    assert all(word in line for word in words), line
    assert not out.exists()


def test_weights_bring_their_network(hands, run, tmp_path):
    """Not that of the preset, unless a setting says so; everything else is the preset's."""
    few = ["epochs=1", "validation_images=2", "image_shape=64x48", "max_width=16"]
    words = ["train", "--data", hands.folder, "--init", run, "--out", tmp_path / "run", "--set"]
    assert main([str(word) for word in [*words, *few]]) == 0
    there, here = (experiment.load(path / "experiment.json")[0] for path in (run, tmp_path / "run"))
    assert (here.width, here.depth) == (there.width, there.depth) != (32, 5)
    assert here.sigma_px == experiment.CPU.sigma_px != there.sigma_px
    chosen = experiment.QUICK.with_settings(["depth=2"], network=there)
    assert (chosen.width, chosen.depth) == (8, 2)
    assert chosen.image_shape == experiment.QUICK.image_shape


def test_unknown_preset_and_fold(hands, tmp_path, capsys):
    out = tmp_path / "run"
    common = ["train", "--data", hands.folder, "--out", out]
    assert "'huge'" in refused(capsys, 2, *common, "--preset", "huge")
    assert "'set9'" in refused(capsys, 2, *common, "--fold", "set9")
    assert not out.exists()


def test_a_missing_image(hands, tmp_path, capsys):
    folder = copied(hands, tmp_path)
    gone = prepared.read(folder).image_path(hands.ids[3])
    gone.unlink()
    line = refused(capsys, 1, "train", "--data", folder, "--out", tmp_path / "run")
    assert str(gone) in line and not (tmp_path / "run").exists()


def test_a_truncated_image(hands, tmp_path, capsys):
    folder = copied(hands, tmp_path)
    cut = prepared.read(folder).image_path(hands.ids[3])
    cut.write_bytes(cut.read_bytes()[:2000])
    out = tmp_path / "run"
    line = refused(capsys, 1, "train", "--data", folder, "--out", out, "--set", *SMALL)
    assert cut.name in line and not out.exists()


def test_a_fold_that_names_an_id_the_folder_lacks(hands, tmp_path, capsys):
    folder = copied(hands, tmp_path)
    with (folder / "folds/dev/test.txt").open("a") as file:
        file.write("hand_of_nobody\n")
    line = refused(capsys, 1, "train", "--data", folder, "--fold", "dev", "--out", tmp_path / "run")
    assert "hand_of_nobody" in line and "test.txt" in line and not (tmp_path / "run").exists()


def test_a_dataset_with_other_landmarks_than_the_model(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    preparation.write(
        tmp_path / "four",
        name="four",
        landmarks=list("abcd"),
        records=[
            (str(i), rng.integers(0, 255, (80, 60), np.uint8), rng.uniform(5, 50, (4, 2)))
            for i in range(4)
        ],
        folds={"dev": (["0", "1"], ["2", "3"])},
    )
    out = tmp_path / "evaluation"
    line = refused(capsys, 1, "evaluate", run, "--data", tmp_path / "four", "--out", out)
    assert f"{tmp_path / 'four'}: landmark 'a' is none of the 37 of the model" in line
    assert not out.exists()


def test_evaluate_takes_some_of_the_landmarks_in_any_order(hands, run, tmp_path, capsys):
    """Of the same images, as someone else annotated them."""
    _, test = hands.fold("dev")
    chosen = [4, 20, 0]
    some = preparation.write(
        tmp_path / "some",
        name="some",
        landmarks=[hands.landmarks[k] for k in chosen],
        records=[
            (f"new{i}", hands.image_path(i), hands.points[hands.ids.index(i)][chosen]) for i in test
        ],
        scale=Scale(landmarks=(2, 0), length_mm=50.0),
    )
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert main(["evaluate", str(run), "--data", str(hands.folder), "--out", str(whole)]) == 0
    of_all = ["--data", str(some.folder), "--fold", "all", "--out", str(part)]
    assert main(["evaluate", str(run), *of_all]) == 0
    whole, part = (table_files.read_errors(out / "errors.csv") for out in (whole, part))
    whole = whole[whole["landmark"].isin(some.landmarks)]
    order = [i * 3 + k for i in range(len(test)) for k in (1, 2, 0)]  # as 4, 20, 0 lie in it
    columns = ["landmark", "x", "y", "x_true", "y_true", "error_px", "error_mm"]
    pd.testing.assert_frame_equal(
        part[columns], whole[columns].iloc[order].reset_index(drop=True), rtol=1e-6
    )
    report = ["report", str(tmp_path / "part"), "--out", str(tmp_path / "part.html")]
    assert main(report) == 0, capsys.readouterr().err


def test_evaluate_refuses_images_that_were_trained_on(hands, run, tmp_path, capsys):
    train, _ = hands.fold("dev")
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{train[0]}\n")
    out = tmp_path / "evaluation"
    line = refused(capsys, 1, "evaluate", run, "--data", hands.folder, "--ids", ids, "--out", out)
    assert train[0] in line and "trained on" in line and not out.exists()


def test_images_are_known_by_their_pixels_not_their_names(hands, run, tmp_path, capsys):
    renamed = preparation.write(
        tmp_path / "renamed",
        name="another",
        landmarks=hands.landmarks,
        records=[
            (f"new{i}", hands.image_path(old), hands.points[i]) for i, old in enumerate(hands.ids)
        ],
        scale=hands.scale,
    )
    train, test = hands.fold("dev")
    ids, out = tmp_path / "ids.txt", tmp_path / "evaluation"
    ids.write_text(f"new{hands.ids.index(train[0])}\n")
    args = ["evaluate", run, "--data", renamed.folder, "--ids", ids, "--out", out]
    assert "trained on" in refused(capsys, 1, *args)
    ids.write_text("".join(f"new{hands.ids.index(i)}\n" for i in test))
    assert main([str(arg) for arg in args]) == 0
    assert "given ids" in capsys.readouterr().out


def test_new_images_alone_are_evaluated_without_a_baseline(run, tmp_path, capsys):
    new = synthetic.write(tmp_path / "new", 3, seed=5, shape=(140, 100))
    ids, out = tmp_path / "ids.txt", tmp_path / "evaluation"
    ids.write_text("\n".join(new.ids))
    args = ["evaluate", run, "--data", new.folder, "--ids", ids, "--out", out]
    assert main([str(arg) for arg in args]) == 0
    assert json.loads((out / "summary.json").read_text())["mean_shape"] is None


@pytest.mark.slow
def test_what_keras_json_says_changes_no_number(hands, tmp_path):
    """That is of the user's other programs, and so are variables of the environment."""
    theirs = {"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(theirs))
    variables = {"KERAS_HOME": tmp_path, "KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": 1}
    losses = []
    for name, more in (("plain", {}), ("other", variables)):
        out = tmp_path / name
        done = kerasland("train", "--data", hands.folder, "--out", out, "--set", *SMALL, **more)
        assert done.returncode == 0, done.stderr
        losses.append(pd.read_csv(out / "history.csv").drop(columns="seconds"))
    pd.testing.assert_frame_equal(*losses)


def test_a_training_that_fails_says_so(hands, tmp_path, capsys):
    out = tmp_path / "run"
    line = refused(
        capsys, 1, "train", "--data", hands.folder, "--out", out, "--set", *SMALL,
        "learning_rate=1e30", "clip_norm=0", "epochs=3", "warmup_epochs=0", "normalization=none",
    )  # fmt: skip
    assert "learning_rate" in line and str(out) in line and not (out / "model.keras").exists()


def test_evaluate_refuses_another_model_and_unknown_ids(hands, run, tmp_path, capsys):
    data = ["--data", hands.folder]
    assert "no such model" in refused(capsys, 1, "evaluate", tmp_path / "none", *data)
    ids = tmp_path / "ids.txt"
    ids.write_text("nobody\n")
    assert "image nobody is not in" in refused(capsys, 1, "evaluate", run, *data, "--ids", ids)
    ids.write_text(f"{hands.ids[0]}\n{hands.ids[0]}\n")
    assert "is listed twice" in refused(capsys, 1, "evaluate", run, *data, "--ids", ids)
    ids.write_text("")
    assert "no image ids" in refused(capsys, 1, "evaluate", run, *data, "--ids", ids)
    assert not (run / "evaluation").exists()
    stopped = shutil.copytree(run, tmp_path / "stopped")
    (stopped / "model.keras").unlink()
    line = refused(capsys, 1, "evaluate", stopped, *data)
    assert f"{stopped}: its training is not finished; go on with --resume, or name" in line
    assert f"{stopped}/best.keras" in line
    mistyped = ["predict", ids, "--model", run / "modle.keras", "--out", tmp_path / "found"]
    assert "modle.keras: no such model" in refused(capsys, 1, *mistyped)


def test_evaluate_takes_what_says_on_what_it_was_trained(hands, run, tmp_path, capsys):
    data = ["--data", hands.folder]
    for model in ("pretrained", run / "best.keras"):
        line = refused(capsys, 2, "evaluate", model, *data)
        assert f"{model}: is no run's folder; say where to write with --out" in line
    line = refused(capsys, 2, "evaluate", "pretrained", *data, "--out", hands.folder)
    assert f"{hands.folder}: a prepared data set; name another folder with --out" in line
    line = refused(capsys, 2, "evaluate", "pretrained", *data, "--out", tmp_path / "out")
    assert "has no image that pretrained was trained on" in line and "--fold all for all" in line
    alone = shutil.copy(run / "best.keras", tmp_path)
    line = refused(capsys, 2, "evaluate", alone, *data, "--out", tmp_path / "out")
    assert f"{alone}: no experiment.json of a run beside it" in line and "model_errors" in line
    assert not (tmp_path / "out").exists()
    best = ["evaluate", str(run / "best.keras"), "--data", str(hands.folder)]
    assert main([*best, "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["model"] == str((run / "best.keras").resolve())
    assert summary["subset"] == "fold dev" and summary["mean_shape"]


def test_evaluate_asks_which_images_of_another_data_set(hands, run, tmp_path, capsys):
    """A fold there, whatever its name, was drawn for another training."""
    run = shutil.copytree(run, tmp_path / "run")
    own = sorted(path.name for path in run.iterdir())
    other = synthetic.write(tmp_path / "a b", 5, seed=99, shape=(140, 100))
    line = refused(capsys, 2, "evaluate", run, "--data", other.folder)
    assert f"no image that {run} was trained on" in line and "--fold all for all 5 images" in line
    assert main(["evaluate", str(run), "--data", str(other.folder), "--fold", "all"]) == 0
    written, said = run / "evaluation_a_b", capsys.readouterr()
    assert f"written to {written}\n" in said.out and "no mean shape" in said.err
    summary = json.loads((written / "summary.json").read_text())
    assert summary["images"] == 5 and summary["subset"] == "all images"
    assert sorted(path.name for path in run.iterdir()) == sorted([*own, written.name])
    trained = json.loads((run / "experiment.json").read_text())["train_ids"][:2]
    records = [
        (i, np.full((140, 100), k, np.uint8), hands.points[k]) for k, i in enumerate(trained)
    ]
    changed = preparation.write(
        tmp_path / "c", name="c", landmarks=hands.landmarks, records=records
    )
    line = refused(capsys, 2, "evaluate", run, "--data", changed.folder)
    assert "(2 are called so: if those are the same, --fold dev)" in line


def test_figures_without_a_baseline_that_has_no_error(hands, tmp_path):
    ids = hands.ids[:2]
    points = hands.points[hands.index(ids)] + 1.0
    errors = point_errors.point_errors(hands, ids, points, np.ones(points.shape[:2]))
    nothing = errors.assign(error_mm=np.nan)
    evaluate.write_figures(tmp_path, hands, errors, {"unet": errors, "mean_shape": nothing})
    assert {path.name for path in tmp_path.iterdir()} >= {"cumulative_error.png", "worst.png"}


def test_of_several_trainings_the_pictures_show_the_one_that_is_furthest_off(
    hands, tmp_path, monkeypatch
):
    ids, shown = hands.ids[:2], []
    truth, sure = hands.points[hands.index(ids)], np.ones((2, len(hands.landmarks)))
    off_px = np.array([[3.0, 1.0], [2.0, 4.0]])  # by seed and image
    errors = pd.concat(
        point_errors.point_errors(hands, ids, truth + off[:, None, None], sure).assign(seed=seed)
        for seed, off in enumerate(off_px)
    )
    draw = overlays.overlay_grid
    monkeypatch.setattr(overlays, "overlay_grid", lambda items: draw(shown.extend(items) or items))
    evaluate.write_figures(tmp_path, hands, errors, {"unet": errors})
    assert [item.title for item in shown] == [ids[1], ids[0]]
    for item, off in zip(shown, (4.0, 3.0), strict=True):
        np.testing.assert_allclose(item.points - item.truth, off)
    worst = evaluate._worst_points(hands, errors, "mm")
    assert len({item.title.split("\n")[0] for item in worst}) == len(worst) == 20


def test_pictures_of_large_errors_hold_them(hands):
    assert evaluate._right_end(pd.Series([1.0] * 20), "mm") == 10
    assert evaluate._right_end(pd.Series([1.0] * 8 + [60.0] * 2), "mm") == 100
    assert evaluate._right_end(pd.Series([120.0, 9e9]), "px") == 1000
    ids = hands.ids[:2]
    points = hands.points[hands.index(ids)] + (0.0, 50.0)
    errors = point_errors.point_errors(hands, ids, points, np.ones(points.shape[:2]))
    sides = [item.side_px for item in evaluate._worst_points(hands, errors, "mm")]
    assert len(sides) == 20 and min(sides) >= 2.4 * 50


def test_ctrl_c_says_how_to_go_on(hands, tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stopped)
    line = refused(capsys, 130, "train", "--data", hands.folder, "--out", tmp_path / "run")
    assert "interrupted: the same command with --resume goes on" in line


def test_a_terminal_that_lacks_a_letter_does_not_fail_what_is_done(
    hands, run, tmp_path, monkeypatch
):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", shown)
    args = ["evaluate", run, "--data", hands.folder, "--out", tmp_path / "evaluation"]
    assert main([str(arg) for arg in args]) == 0
    shown.flush()
    assert b"100 % ? their percentage" in shown.buffer.getvalue()


def test_evaluate_writes_what_the_design_says(hands, run, tmp_path, capsys):
    out = tmp_path / "evaluation"
    assert main(["evaluate", str(run), "--data", str(hands.folder), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "mean_shape" in text and "unet+cartesian+polar" in text and "(0, 4) = 50 mm" in text
    errors = pd.read_csv(out / "errors.csv")
    _, test = hands.fold("dev")
    assert set(errors["image_id"]) == set(test) and len(errors) == 37 * len(test)
    truth = hands.points[hands.index(test)].reshape(-1, 2)
    np.testing.assert_allclose(errors[["x_true", "y_true"]], truth)
    off = np.hypot(errors["x"] - errors["x_true"], errors["y"] - errors["y_true"])
    np.testing.assert_allclose(errors["error_px"], off)
    scale = 50 / np.linalg.norm(
        truth.reshape(-1, 37, 2)[:, 0] - truth.reshape(-1, 37, 2)[:, 4], axis=1
    )
    np.testing.assert_allclose(errors["error_mm"], off * np.repeat(scale, 37))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["init_images_known"]
    assert summary["error_mm_mean"] == pytest.approx(errors["error_mm"].mean())
    assert summary["mean_shape"]["images"] == len(test)
    for name in (
        "table.csv",
        "table.md",
        "table.tex",
        "per_landmark.csv",
        "worst.png",
        "cumulative_error.png",
        "per_landmark.png",
    ):
        assert (out / name).stat().st_size > 100, name


@pytest.mark.slow
def test_two_replicas_from_the_command_line(hands, tmp_path, temporary):
    """Validation, averaging, checkpoints and the final model under two logical devices."""
    out = tmp_path / "run"
    settings = [*SMALL[:4], "epochs=2", *SMALL[5:], "batch_size=4"]
    done = kerasland(
        "train", "--data", hands.folder, "--fold", "dev", "--out", out, "--replicas", 2,
        "--set", *settings, TMPDIR=temporary, **BYTECODE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    history = pd.read_csv(out / "history.csv")
    assert len(history) == 2 and np.isfinite(history.to_numpy()).all()
    again = kerasland("evaluate", out, "--data", hands.folder)
    assert again.returncode == 0, again.stderr[-2000:]
    odd = kerasland("train", "--data", hands.folder, "--out", tmp_path / "odd", "--replicas", 3)
    assert odd.returncode == 2 and "--set batch_size=3" in odd.stderr
    odd = kerasland(
        "train", "--data", hands.folder, "--out", tmp_path / "odd", "--replicas", 2,
        "--set", "validation_images=3",
    )  # fmt: skip
    assert odd.returncode == 2 and "--set validation_images=2" in odd.stderr


def test_predict_writes_landmarks_and_overlays(hands, run, tmp_path, capsys):
    images = [hands.image_path(i) for i in hands.ids[:2]]
    out = tmp_path / "out"
    options = ["--model", str(run), "--mm-per-px", "0.2", "--out", str(out)]
    assert main(["predict", *map(str, images), *options]) == 0
    table = pd.read_csv(out / "landmarks.csv")
    assert set(table["scale"]) == {"0.2 mm per px"}
    assert list(table)[:5] == ["image", "landmark", "x", "y", "confidence"]
    assert list(table["landmark"][:37]) == list(hands.landmarks)
    assert table["confidence"].between(0, 1).all()
    document = json.loads((out / "landmarks.json").read_text())
    assert [part["image"] for part in document] == [str(path) for path in images]
    assert document[0]["shape_found"] is None  # a model without a shape prior
    assert document[1]["landmarks"][36]["x"] == pytest.approx(table["x"].iloc[-1])
    for path in images:
        assert Image.open(out / "overlays" / f"{path.stem}.jpg").size[1] > 300


def test_predict_of_a_bad_image_keeps_the_others(hands, run, tmp_path, capsys):
    good = hands.image_path(hands.ids[0])
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    out = tmp_path / "out"
    line = refused(capsys, 1, "predict", bad, good, "--model", run, "--out", out)
    assert "bad.jpg" in line
    assert set(pd.read_csv(out / "landmarks.csv")["image"]) == {str(good)}
    missing = tmp_path / "nowhere.png"
    assert str(missing) in refused(capsys, 1, "predict", missing, "--model", run, "--out", out)
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK nothing")
    assert str(broken) in refused(capsys, 1, "predict", good, "--model", broken, "--out", out)


def test_predict_works_straight_after_install(hands, tmp_path, temporary):
    """The pretrained model ships with the package; no network, no option.

    In the command's process TensorFlow has oneDNN, and a batch, in this one neither.
    """
    images = [hands.image_path(image_id) for image_id in hands.ids[: localizers.BATCH + 1]]
    done = kerasland("predict", *images, "--out", tmp_path / "out", TMPDIR=temporary, **BYTECODE)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "landmarks.csv")
    localize = localizers.localizer(model_files.load_pretrained())
    points, confidence = zip(*(localize(read_image(image)) for image in images), strict=True)
    np.testing.assert_allclose(table[["x", "y"]], np.concatenate(points), atol=0.02)
    np.testing.assert_allclose(table["confidence"], np.concatenate(confidence), atol=1e-3)


def test_reproduce_checks_all_rows_before_it_trains(hands, tmp_path, capsys):
    out = tmp_path / "out"
    args = ["reproduce", "--data", hands.folder, "--out", out, "--set", *SMALL]
    pearson = refused(capsys, 2, *args, "correlation=pearson")
    assert "correlation='pearson'" in pearson and "`train` and `evaluate` a single" in pearson
    assert "maps=polar" in refused(capsys, 2, *args, "maps=polar")
    both = ("shape_prior=true", "shape_posterior=true")
    assert "needs shape_prior=false" in refused(capsys, 2, *args, *both)
    assert "names dev more than once" in refused(capsys, 2, *args, "--folds", "dev,dev")
    assert not out.exists()


@pytest.mark.slow
def test_reproduce_from_other_weights_and_seeds(hands, run, tmp_path, capsys):
    """Each training begun from them; what two seeds differ by beside their mean; runs that a later
    call leaves out."""
    folder, out = copied(hands, tmp_path), tmp_path / "out"
    data = ("--data", str(folder))
    for part, other in (("train", "test"), ("test", "train")):
        (folder / "folds" / "swapped").mkdir(exist_ok=True)
        shutil.copy(folder / "folds/dev" / f"{part}.txt", folder / "folds/swapped" / f"{other}.txt")
    seen = ["reproduce", *data, "--folds", "swapped", "--init", run, "--out", out]
    assert "was trained on image" in refused(capsys, 1, *seen) and not out.exists()
    tiny = ["epochs=1", "image_shape=64x64", "validation_images=0"]
    once = ["reproduce", *data, "--init", "drawn_hands", "--out", str(out), "--set", *tiny]
    assert main([*once, "--seeds", "2"]) == 0
    both = capsys.readouterr()
    assert "2 seeds, trained from drawn_hands; scale" in both.out and "other runs" not in both.err
    assert "CI: bootstrap over images, too narrow with so few" in both.out
    assert "not adjusted for 3 comparisons" in both.out
    table, pairs = (pd.read_csv(out / f"{name}.csv") for name in ("ablation", "paired"))
    errors = [
        table_files.read_errors(out / "runs" / f"{method}_dev_seed{seed}" / "evaluation/errors.csv")
        for method in ("unet", "unet+polar")
        for seed in (0, 1)
    ]
    means = np.array([of_run["error_mm"].mean() for of_run in errors])
    cell = table.set_index("method")["error_mean_of_seeds"]
    assert cell["unet"] == f"{means[0]:.3f}, {means[1]:.3f}" and pd.isna(cell["mean_shape"])
    apart = means[2:] - means[:2]
    assert pairs["difference_of_seeds"][1] == f"{apart[0]:+.3f}, {apart[1]:+.3f}"
    assert main(once) == 0
    one = capsys.readouterr()
    assert "4 other runs are there" in one.err and "unet+cartesian+polar_dev_seed1" in one.err
    assert "each seed" not in one.out


def test_reproduce_keeps_a_data_set_that_is_in_its_way(tmp_path, capsys):
    records = [(str(i), np.full((70, 60), i, np.uint8), np.ones((1, 2))) for i in range(4)]
    there = preparation.write(tmp_path / "data", name="mine", landmarks=["a"], records=records)
    line = refused(capsys, 2, "reproduce", "--out", tmp_path)
    assert str(there.folder) in line and "--data" in line
    assert prepared.read(there.folder).hash == there.hash


def test_reproduce_tests_each_image_once(hands, tmp_path, capsys):
    data = tmp_path / "hands"
    shutil.copytree(hands.folder, data)
    shutil.copytree(data / "folds" / "dev", data / "folds" / "other")
    out = tmp_path / "out"
    line = refused(capsys, 2, "reproduce", "--data", data, "--out", out, "--folds", "dev,other")
    assert "is in the test lists of dev and other" in line and not out.exists()


def test_export_refuses_what_it_cannot_write(run, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert "there" in refused(capsys, 2, "export", run, "--out", tmp_path / "there")
    line = refused(capsys, 2, "export", run, "--format", "pdf", "--out", tmp_path / "new")
    assert "'pdf'" in line and not (tmp_path / "new").exists()


def test_export_says_why_there_are_no_millimetres(run, tmp_path, capsys):
    import onnx

    shutil.copy(run / "model.keras", tmp_path / "alone.keras")
    for source, said in ((run, ""), (tmp_path / "alone.keras", "so the export has no mm_per_px\n")):
        out = tmp_path / f"{source.stem}.onnx"
        capsys.readouterr()
        assert main(["export", str(source), "--out", str(out)]) == 0
        err = capsys.readouterr().err
        assert err.endswith(said) and err.count("\n") == bool(said)
        (about,) = onnx.load(out).metadata_props
        assert (json.loads(about.value)["scale"] is None) == bool(said)
