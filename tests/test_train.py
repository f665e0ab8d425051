"""Training as it runs: replicas, a kill and a resume, models that come back in a fresh process."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from kerasland import (
    advice,
    callbacks,
    dataset,
    devices,
    evaluate,
    model_notes,
    point_errors,
    preparation,
    prepared,
    run_folder,
    synthetic,
    train,
)
from kerasland.errors import DataError, UsageError
from kerasland.experiment import Experiment, load
from kerasland.images import read_image
from kerasland.model_files import take_weights
from kerasland.models import unet
from kerasland.scale import Scale

TINY = Experiment(
    image_shape=(64, 48),
    width=8,
    max_width=16,
    depth=3,
    sigma_px=1.5,
    epochs=3,
    batch_size=4,
    warmup_epochs=1,
    validation_images=2,
)
STILL = {"rotation_deg": 0.0, "scale": 0.0, "shift": 0.0, "elastic_px": 0.0}
EXACT = TINY.replace(
    optimizer="sgd", learning_rate=1e-2, gamma=0.0, contrast=0.0, noise=0.0, **STILL
)


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("hands") / "data", 14, shape=(140, 100))


def python(code: str, *args: object, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, **kwargs
    )


REPLICAS = """
import json, sys, dataclasses
import numpy as np, keras
from kerasland import dataset, devices, experiment, prepared, train
folder, out, replicas, settings = sys.argv[1:]
e = experiment.from_dict(json.loads(settings), "test").replace(replicas=int(replicas))
data = prepared.read(folder)
scope = devices.strategy(e.replicas)
assert scope.num_replicas_in_sync == max(1, int(replicas))
frames = dataset.load_frames(data, data.ids, e.image_shape)
keras.utils.set_random_seed(e.seed)
with scope.scope():
    model = train.build(e, data.landmarks)
    train.compile_model(model, e, 100, data.scale)
history = model.fit(
    dataset.with_targets(dataset.training(frames, e), model), epochs=2, steps_per_epoch=3,
    shuffle=False, verbose=0,
)
np.savez(out, *model.get_weights())
print(json.dumps(history.history))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"normalization": "group"}, {"normalization": "batch", "clip_norm": 0.5}],
    ids=["group", "synchronized_batch_clipped"],
)
def test_two_replicas_give_one_replicas_weights(hands, tmp_path, change):
    settings = {**EXACT.__dict__, **change, "ema_momentum": 0.9}
    weights, losses = [], []
    for replicas in (1, 2):
        out = tmp_path / f"{replicas}.npz"
        done = python(REPLICAS, hands.folder, out, replicas, json.dumps(settings))
        assert done.returncode == 0, done.stderr[-2000:]
        losses.append(json.loads(done.stdout.splitlines()[-1]))
        weights.append(np.load(out))
    assert losses[0]["embedding_loss"][0] > 0 and losses[0]["heatmaps_loss"][0] > 0
    for key in weights[0]:
        np.testing.assert_allclose(weights[0][key], weights[1][key], rtol=0, atol=1e-6)
    for key, values in losses[0].items():
        np.testing.assert_allclose(values, losses[1][key], rtol=1e-4, err_msg=key)


WATCHED = """
import sys
from kerasland import experiment, prepared, train
from tests.test_train import TINY
folder, out, replicas = sys.argv[1:]
e = TINY.replace(
    epochs=1, replicas=int(replicas), batch_size=6, validation_images=6, normalization="group"
)
train.train(prepared.read(folder), e, out, quiet=True)
"""


@pytest.mark.slow
def test_replicas_see_the_validation_that_one_sees(tmp_path):
    """Three of them six images: the batches are of whole shares, however many fit into one."""
    hands = synthetic.write(tmp_path / "data", 18, shape=(140, 100))
    histories = []
    for replicas in (1, 3):
        done = python(WATCHED, hands.folder, tmp_path / str(replicas), replicas)
        assert done.returncode == 0, done.stderr[-2000:]
        histories.append(pd.read_csv(tmp_path / str(replicas) / "history.csv"))
    for column in histories[0].filter(like="val_"):
        np.testing.assert_allclose(*(history[column] for history in histories), rtol=1e-3)


OVERFLOW = """
import sys
import keras, numpy as np, tensorflow as tf
from kerasland import devices, optimizers, train
scope = devices.strategy(2)
with scope.scope():
    weight = keras.Variable(np.ones(3, "float32"))
    make = {"ours": optimizers, "keras": keras.optimizers}[sys.argv[1]].LossScaleOptimizer
    optimizer = make(optimizers.SGD(0.1, clip_norm=1.0), initial_scale=8.0)
    optimizer.build([weight])

@tf.function
def step(overflowing):
    def one():
        here = tf.distribute.get_replica_context().replica_id_in_sync_group
        large = tf.where(overflowing & (here == 1), np.inf, 8.0)
        optimizer.apply([tf.fill([3], tf.cast(large, tf.float32))], [weight])
    scope.run(one)

found = []
for overflowing in (False, True, False):
    step(tf.constant(overflowing))
    found += [float(weight.numpy()[0]), float(optimizer.dynamic_scale.numpy())]
print(*found)
"""


@pytest.mark.slow
def test_an_overflow_on_one_replica_skips_the_step_of_all():
    done = python(OVERFLOW, "ours")
    assert done.returncode == 0, done.stderr[-2000:]
    first, scale, skipped, halved, after, _ = map(float, done.stdout.split())
    assert first == pytest.approx(1 - 0.1 / 3**0.5) and scale == 8
    assert skipped == first and halved == 4 and after < first
    theirs = python(OVERFLOW, "keras")  # should Keras mend this, ours can go
    assert "nan" in theirs.stdout, theirs.stdout + theirs.stderr[-2000:]


def test_training_moves_the_weights_that_the_replica_test_compares(hands):
    """Guards the test above: were nothing learnt, equal weights would mean nothing."""
    keras.utils.set_random_seed(0)
    model = train.build(EXACT, hands.landmarks)
    train.compile_model(model, EXACT, 100, hands.scale)
    before = model.get_weights()
    frames = dataset.load_frames(hands, hands.ids, EXACT.image_shape)
    batches = dataset.with_targets(dataset.training(frames, EXACT), model)
    model.fit(batches, epochs=1, steps_per_epoch=3, shuffle=False, verbose=0)
    moved = max(np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True))
    assert moved > 1e-4


def start(hands, run, experiment, *options):
    settings = {**experiment.__dict__, "image_shape": "x".join(map(str, experiment.image_shape))}
    command = ["train", "--data", hands.folder, "--fold", "dev", "--out", run, *options, "--set"]
    command += [f"{key}={value}" for key, value in settings.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "kerasland", *map(str, command)], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_resume_after_kill_goes_on_from_the_last_epoch(hands, tmp_path):
    experiment = TINY.replace(epochs=8, dropout=0.2, precision="bfloat16")
    whole = tmp_path / "whole"
    process = start(hands, whole, experiment)
    assert process.wait(timeout=300) == 0, process.stderr.read()[-2000:]

    run = tmp_path / "killed"
    process = start(hands, run, experiment)
    deadline = time.monotonic() + 300
    while run_folder.last_checkpoint(run)[1] < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(UsageError, match="killed: another process is training in it"):
        train.train(hands, experiment, run, "dev", resume=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, epochs = run_folder.last_checkpoint(run)
    assert 3 <= epochs < 8
    assert not (run / "model.keras").exists()

    process = start(hands, run, experiment, "--resume")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-2000:]
    assert f"resumed after epoch {epochs}" in errors

    history = pd.read_csv(run / "history.csv")
    assert list(history["epoch"]) == list(range(8))
    expected = pd.read_csv(whole / "history.csv")
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4)
    rate = "learning_rate"
    np.testing.assert_allclose(history[rate], expected[rate], rtol=1e-6)
    assert not list(run.rglob("*.tmp*")) and not (run / "checkpoints").exists()


@pytest.fixture(scope="module")
def finished(hands, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "tiny"
    train.train(hands, TINY, run, "dev", quiet=True)
    return run


def test_a_run_folder_holds_what_the_design_says(hands, finished):
    names = {path.name for path in finished.iterdir()}
    assert {"experiment.json", "model.keras", "best.keras", "history.csv", "tensorboard"} <= names
    notes = json.loads((finished / "experiment.json").read_text())
    assert notes["experiment"]["image_shape"] == [64, 48]
    assert notes["data"]["hash"] == hands.hash
    _, test = hands.fold("dev")
    seen = {*notes["train_ids"], *notes["validation_ids"]}
    assert len(notes["validation_ids"]) == 2 and not seen & set(test)
    assert notes["parameters"] > 0 and notes["minutes"] > 0
    history = pd.read_csv(finished / "history.csv")
    assert {"heatmaps_loss", "embedding_loss", "val_landmarks_radial_error_mm"} <= set(history)


def events(run, part):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(run / "tensorboard" / part), {"tensors": 0})
    log.Reload()
    return log


def hparams_of(log) -> plugin_data_pb2.SessionStartInfo:
    content = log.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    return metadata.parse_session_start_info_plugin_data(content)


def test_tensorboard_shows_curves_pictures_and_settings(hands, finished):
    train_log, validation_log = events(finished, "train"), events(finished, "validation")
    curves = ["error/radial_error_mm", "error/sdr_2mm"]
    curves += ["loss/configuration", "loss/heatmaps", "loss/total"]
    history = pd.read_csv(finished / "history.csv")
    for log, column in ((train_log, "loss"), (validation_log, "val_loss")):
        # training and validation in the same charts
        assert set(curves) <= set(log.Tags()["tensors"])
        found = log.Tensors("loss/total")
        assert [event.step for event in found] == [1, 2, 3]
        values = [tf.make_ndarray(event.tensor_proto).item() for event in found]
        np.testing.assert_allclose(values, history[column], rtol=1e-5)
        for tag in curves:
            assert log.SummaryMetadata(tag).summary_description, tag
    assert "before its weight of 1." in (
        validation_log.SummaryMetadata("loss/configuration").summary_description
    )
    assert "optimizer/learning_rate" in train_log.Tags()["tensors"]
    pictures = {"overlays/landmarks": 2, "similarity/correlation_map": 3}
    for tag, count in pictures.items():
        events_of_tag = validation_log.Tensors(tag)
        assert [event.step for event in events_of_tag] == [1, 2, 3]
        width, height, *drawn = events_of_tag[-1].tensor_proto.string_val
        assert len(drawn) == count and min(int(width), int(height)) > 300
        for encoded in drawn:
            assert tf.io.decode_png(encoded).numpy().std() > 5
    # the run that holds the settings is the one whose errors HPARAMS shows beside them
    settings = hparams_of(validation_log)
    assert settings.group_name == "" and settings.hparams["maps"].string_value == "both"
    assert settings.hparams["epochs"].number_value == TINY.epochs
    assert settings.hparams["init"].string_value == "random weights"
    with pytest.raises(KeyError, match="hparams"):
        hparams_of(train_log)
    assert "settings" in validation_log.Tags()["tensors"]


def test_tensorboard_without_validation_watches_the_training(hands, tmp_path):
    run = tmp_path / "run"
    experiment = TINY.replace(epochs=1, validation_images=0, maps="none")
    train.train(hands, experiment, run, "dev", quiet=True)
    assert [path.name for path in (run / "tensorboard").iterdir()] == ["train"]
    log = events(run, "train")
    tags = {"overlays/landmarks", "similarity/correlation_map", "error/radial_error_mm"}
    assert tags <= set(log.Tags()["tensors"])
    assert hparams_of(log).hparams["maps"].string_value == "none"


def test_the_same_seed_gives_the_same_run(hands, finished, tmp_path):
    train.train(hands, TINY, tmp_path / "again", "dev", quiet=True)
    first, second = (
        pd.read_csv(run / "history.csv").drop(columns="seconds")
        for run in (finished, tmp_path / "again")
    )
    pd.testing.assert_frame_equal(first, second, rtol=1e-5)


@pytest.mark.slow
def test_the_saved_model_predicts_the_same_in_a_fresh_process(finished, tmp_path):
    model = train.load_model(finished)
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 48, 1)).astype("float32")
    np.save(tmp_path / "image.npy", image)
    done = python(
        "import sys, numpy as np, kerasland, keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "out = model.predict(np.load(sys.argv[2]), verbose=0)\n"
        "np.savez(sys.argv[3], **out)",
        finished / "model.keras",
        tmp_path / "image.npy",
        tmp_path / "out.npz",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    there = np.load(tmp_path / "out.npz")
    for name, value in model.predict(image, verbose=0).items():
        np.testing.assert_allclose(there[name], value, atol=1e-5)


def test_averaged_weights_are_what_is_validated_and_kept(hands, tmp_path):
    model = train.train(hands, TINY.replace(epochs=2), tmp_path / "run", "dev", quiet=True)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    notes = json.loads((tmp_path / "run" / "experiment.json").read_text())
    frames = dataset.load_frames(hands, tuple(notes["validation_ids"]), TINY.image_shape)
    train.compile_model(model, TINY, 10, hands.scale)
    batches = dataset.with_targets(dataset.validation(frames, 8), model)
    logs = model.evaluate(batches, return_dict=True, verbose=0)
    # the batch statistics of the last epoch's end and the average of the weights, as validated
    np.testing.assert_allclose(logs["loss"], history["val_loss"].iloc[-1], rtol=1e-4)


class Watch(keras.callbacks.Callback):
    """Notes in what precision the network computes while it trains, and the weights at the end."""

    def on_train_end(self, logs=None):
        self.precision = self.model.get_layer("stem_conv").compute_dtype
        self.weights = self.model.get_weights()


def test_the_best_average_is_kept_and_training_goes_on_with_the_weights(tmp_path):
    """Also by what validates after a resume; of equal errors the first is the best."""
    model, best = unet(2, (16, 16), width=2, depth=2), tmp_path / "best.keras"
    optimizer = keras.optimizers.SGD(use_ema=True)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer)
    kept = []
    for number, error in enumerate([np.nan, 2.0, 3.0, 2.0, 1.5]):
        for average in optimizer._model_variables_moving_average:
            average.assign(np.full(average.shape, number))
        before = [np.full(array.shape, 0.1) for array in model.get_weights()]
        model.set_weights(before)
        validation = callbacks.Averaging(best, averaged=True)
        validation.set_model(model)
        validation.on_train_begin()
        validation.on_test_begin()
        assert all((variable == number).all() for variable in _trained(model))
        validation.on_test_end({"loss": 0.0, "landmarks_radial_error_mm": error})
        for one, other in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other.astype("float32"))
        kept.append(best.exists() and _trained(keras.saving.load_model(best))[0].max())
    assert kept == [False, 1, 1, 1, 4]


def _trained(model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_trains_in_lower_precision_and_saves_in_single(hands, tmp_path, precision):
    watch = Watch()
    model = train.train(
        hands,
        TINY.replace(epochs=1, precision=precision, ema_momentum=0),
        tmp_path / "run",
        "dev",
        quiet=True,
        callbacks=[watch],
    )
    assert watch.precision == precision
    for found in (model, keras.saving.load_model(tmp_path / "run" / "best.keras", compile=False)):
        assert {layer.compute_dtype for layer in found.layers} == {"float32"}
        assert getattr(found, "optimizer", None) is None
        for one, other in zip(found.get_weights(), watch.weights, strict=True):
            np.testing.assert_array_equal(one, other)
    sizes = {(tmp_path / "run" / name).stat().st_size for name in ("model.keras", "best.keras")}
    assert max(sizes) < 1.5 * 4 * model.count_params() + 200_000  # weights, and no optimiser's
    assert keras.config.dtype_policy().name == "float32"


def test_any_number_of_landmarks_and_missing_ones(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 80, (6, 4, 2))
    points[:, 3] = np.nan
    points[0, 3] = 50
    data = preparation.write(
        tmp_path / "data",
        name="four",
        landmarks=list("abcd"),
        records=[(str(i), rng.integers(0, 255, (100, 100), np.uint8), points[i]) for i in range(6)],
    )
    model = train.train(data, TINY.replace(epochs=1), tmp_path / "run", quiet=True)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert np.isfinite(history.to_numpy()).all() and "val_landmarks_radial_error_px" in history
    parts = run_folder.split(data, None, TINY)
    of_original = point_errors.model_errors(model, data, parts.validation)["error_px"].mean()
    found = history["val_landmarks_radial_error_px"].iloc[-1]
    assert found == pytest.approx(of_original, rel=0.05)  # though 100 pixels became 48

    # by two landmarks of which no validation image has both: not 0 mm but pixels
    (held,) = run_folder.split(data, None, TINY.replace(validation_images=1)).validation
    points[int(held), 0] = np.nan
    images = [read_image(data.image_path(i)) for i in data.ids]
    data = preparation.write(
        tmp_path / "scaled",
        name="scaled",
        landmarks=list("abcd"),
        records=zip(data.ids, images, points, strict=True),
        scale=Scale((0, 1), 50.0),
    )
    assert len(run_folder.split(data, None, TINY.replace(validation_images=8)).validation) == 2
    watching = TINY.replace(epochs=1, validation_images=1)
    train.train(data, watching, tmp_path / "px", quiet=True)
    history = pd.read_csv(tmp_path / "px" / "history.csv")
    assert (history["val_landmarks_radial_error_px"] > 1).all()


def test_no_fold_is_not_a_fold_without_a_name(hands):
    """Such as that of a variable of the shell that is not set: else its test list is trained on."""
    assert run_folder.split(hands, None, TINY).test == ()
    for names in ("",), ("dev", ""):
        with pytest.raises(UsageError, match="no fold ''; there: dev"):
            run_folder.splits(hands, names, TINY)


def test_a_run_that_is_called_as_what_ships_is_not_taken_for_it(hands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_notes.location("drawn_hands").is_dir()
    assert model_notes.location(Path("drawn_hands")) == Path("drawn_hands")
    with pytest.raises(UsageError, match="drawn_hands: is what a model that ships is called"):
        train.train(hands, TINY, "drawn_hands", "dev")
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten_nor_mixed(hands, finished, tmp_path):
    with pytest.raises(UsageError, match="--resume"):
        train.train(hands, TINY, finished, "dev")
    with pytest.raises(UsageError, match="epochs=3, not 5"):
        train.train(hands, TINY.replace(epochs=5), finished, "dev", resume=True)
    with pytest.raises(UsageError, match="not empty"):
        (tmp_path / "mine.txt").write_text("keep")
        train.train(hands, TINY, tmp_path, "dev")
    other = synthetic.write(tmp_path / "other", 14, seed=99, shape=(140, 100))
    with pytest.raises(DataError, match="other data"):
        train.train(other, TINY, finished, "dev", resume=True)
    shutil.copytree(hands.folder, tmp_path / "edited")
    listed = tmp_path / "edited" / "folds" / "dev" / "train.txt"
    listed.write_text(listed.read_text().split("\n", 1)[1])
    with pytest.raises(UsageError, match="other training images than fold dev has today"):
        train.train(prepared.read(tmp_path / "edited"), TINY, finished, "dev", resume=True)
    about = tmp_path / "edited" / "dataset.json"
    facts = json.loads(about.read_text())
    about.write_text(json.dumps({**facts, "landmarks": facts["landmarks"][::-1]}))
    with pytest.raises(DataError, match="other landmarks, or in another order"):
        train.train(prepared.read(tmp_path / "edited"), TINY, finished, "dev", resume=True)
    TINY.save(tmp_path / "settings" / "experiment.json")
    with pytest.raises(UsageError, match="holds settings but no run"):
        train.train(hands, TINY, tmp_path / "settings", "dev", resume=True)
    assert not (tmp_path / "new").exists()


def test_weights_to_start_from_are_looked_at_first(hands, tmp_path, monkeypatch):
    """Reading all images of a large data set takes longer than seeing that there are none."""
    monkeypatch.setattr(dataset, "load_frames", pytest.fail)
    with pytest.raises(DataError, match="no such model"):
        train.train(hands, TINY, tmp_path / "run", "dev", init=tmp_path / "none.keras")
    assert not (tmp_path / "run").exists()


def test_a_second_network_on_replicas_ends_in_one_line():
    """As TensorFlow says it; it can't be brought back."""
    mismatch = "Collective ops is aborted by: Shape mismatch in the collective instance 146."
    with pytest.raises(UsageError, match="fresh process"), devices.collectives():
        raise tf.errors.InvalidArgumentError(None, None, mismatch)
    with pytest.raises(tf.errors.InvalidArgumentError), devices.collectives():
        raise tf.errors.InvalidArgumentError(None, None, "something else")


@pytest.mark.parametrize("learned", [True, False])
def test_a_beta_that_one_network_learns_is_no_obstacle_to_start_from_it(learned, tmp_path):
    first, other = (TINY.replace(learn_beta=beta) for beta in (learned, not learned))
    there, model = (train.build(experiment, ["a", "b"]) for experiment in (first, other))
    there.save(tmp_path / "there.keras")
    take_weights(model, tmp_path / "there.keras")
    for name in ("stem_conv", "head"):
        np.testing.assert_array_equal(*(m.get_layer(name).get_weights()[0] for m in (model, there)))


@pytest.mark.parametrize("epochs", [9, 100])
def test_what_is_better_known_before_a_training_is_said(capsys, tmp_path, epochs):
    """Few steps; a landmark without points; images of another aspect than the frame."""
    points = np.array([[3.0, 4.0], [np.nan, np.nan]])
    records = [(str(i), np.full((70, 210), i, np.uint8), points) for i in range(9)]
    data = preparation.write(tmp_path / "wide", name="wide", landmarks=["a", "b"], records=records)
    advice.say(TINY.replace(epochs=epochs), "run", data, data.ids, 2, {})
    few, *others = (
        "run: 18 steps are few (one is 4 images of 9); --set epochs=100 would make 200\n",
        "run: b: annotated in no image trained on; what the model says of it means nothing\n",
        "run: images of 70 x 210 (height x width) fill 25% of image_shape=64x48; "
        "--set image_shape=32x96 would suit them\n",
    )
    assert capsys.readouterr().err == "".join([few] * (epochs == 9) + others)
    advice.say(TINY.replace(epochs=epochs, image_shape=(16, 32)), "run", data, data.ids, 2, {})
    assert "image_shape" not in capsys.readouterr().err  # no shape of so few cells fits better
    notes = {"init": "other", "pixel_hashes": [data.pixel_hashes[i] for i in "0123"]}
    advice.say(TINY, "run", data, tuple("45678"), 100, notes, tuple("321"))
    advised = "run: --init other: was trained on 3 of the 3 test images, such as 3; evaluate will"
    assert advised in capsys.readouterr().err


def test_progress_needs_no_terminal_that_can_erase(monkeypatch):
    """A line hides all of the one before, without the escape that cmd.exe of Windows may show."""
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    progress = callbacks.Progress("run", 0)
    progress.set_params({"epochs": 3})
    progress.on_train_begin()
    for epoch, loss in enumerate((12345.0, 1.0, 1.0)):
        progress.on_epoch_end(epoch, {"loss": loss})
    first, second, third = screen.getvalue().removeprefix("\r").split("\r")
    assert "".join((first, second, third)).removesuffix("\n").isprintable()
    assert len(second) == len(first) and len(third.rstrip("\n")) >= len(second.rstrip())
    assert first.startswith("run: epoch 1/3, loss 12345.000, at most 0:")
    assert third.endswith("\n") and "epoch 3/3, loss 1.000" in third


@pytest.mark.parametrize("text", [None, "", "epoch,loss\n0,1\n", "epoch,seconds\n0,ten\n"])
def test_resume_names_a_history_that_is_not_as_it_was_written(tmp_path, text):
    """Before it trains on, not after its last epoch, where the minutes are summed."""
    history = tmp_path / "history.csv"
    if text is not None:
        history.write_text(text)
    with pytest.raises(DataError, match="history.csv: not as it was written .*; delete .*kpts to"):
        callbacks.Checkpoint(tmp_path / "chkpts", history, first_epoch=1)


@pytest.mark.parametrize(
    ("logs", "whose"),
    [
        ({"loss": np.inf}, "the loss"),
        ({"loss": 6.0, "val_loss": np.nan}, "the loss of the validation images"),
    ],
)
def test_a_training_ends_where_a_loss_is_no_number(tmp_path, logs, whose):
    kept = callbacks.Checkpoint(tmp_path / "checkpoints", tmp_path / "history.csv", first_epoch=0)
    with pytest.raises(DataError, match=f"{whose} is (nan|inf) in epoch 3: try a smaller"):
        kept.on_epoch_end(2, logs)
    assert not list(tmp_path.iterdir())


def test_resume_after_an_end_while_the_model_was_written(hands, tmp_path, monkeypatch):
    """The notes were written, the model was not."""
    once, run = TINY.replace(epochs=1, validation_images=0), tmp_path / "run"

    def full(_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "bare", full)
        with pytest.raises(OSError, match="No space left"):
            train.train(hands, once, run, "dev", quiet=True)
    assert "minutes" in json.loads((run / "experiment.json").read_text())
    checkpoint, _ = run_folder.last_checkpoint(run)
    whole = checkpoint.read_bytes()
    middle = len(whole) // 2
    other = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for content, said in ((other, "damaged"), (whole[:middle], "cut off"), (b"", "cut off")):
        checkpoint.write_bytes(content)
        with pytest.raises(DataError, match=f"keras: {said}, .*; delete .*checkpoints to train"):
            train.train(hands, once, run, "dev", resume=True, quiet=True)
    checkpoint.write_bytes(whole)
    train.train(hands, once, run, "dev", resume=True, quiet=True)
    assert (run / "model.keras").exists() and not (run / "checkpoints").exists()


def test_the_same_pixels_in_both_lists_are_refused_before_training(tmp_path):
    same = np.full((140, 100), 7, np.uint8)
    records = [(name, same + (name == "c"), np.full((1, 2), 5.0)) for name in "abc"]
    folds = {"dev": (["a", "c"], ["b"])}
    twice = preparation.write(
        tmp_path / "twice", name="twice", landmarks=["a"], records=records, folds=folds
    )
    with pytest.raises(DataError, match="images a and b have the same pixels; one is in the train"):
        train.train(twice, TINY.replace(validation_images=0), tmp_path / "run", "dev")
    assert not (tmp_path / "run").exists()


def test_a_scale_that_was_corrected_goes_into_the_run(hands, finished, tmp_path):
    """No weight depends on it; a model's millimetres are those of its notes."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(hands.folder, data)
    shutil.copytree(finished, run)
    document = json.loads((data / "dataset.json").read_text())
    document["scale"]["length_mm"] = 40.0
    (data / "dataset.json").write_text(json.dumps(document))
    experiment, notes = load(run / "experiment.json")
    assert notes["data"]["scale"]["length_mm"] == 50.0
    before = (run / "model.keras").read_bytes()
    train.train(prepared.read(data), experiment, run, "dev", resume=True, quiet=True)
    again, after = load(run / "experiment.json")
    assert again == experiment and after["data"].pop("scale")["length_mm"] == 40.0
    del notes["data"]["scale"]
    assert after == notes and (run / "model.keras").read_bytes() == before


def test_weights_of_nobody_knows_what_are_said_again_by_evaluate(hands, finished, tmp_path, capsys):
    """Their images may be the test images: no error on those would mean anything."""
    shutil.copy(finished / "model.keras", tmp_path / "copied.keras")
    once = TINY.replace(epochs=1, validation_images=0)
    train.train(hands, once, tmp_path / "run", "dev", quiet=True, init=tmp_path / "copied.keras")
    assert not capsys.readouterr().err
    summary = evaluate.evaluate(tmp_path / "run", hands)
    assert not summary["init_images_known"] and "is not known" in summary["subset"]
    assert "their errors mean nothing" in capsys.readouterr().err


def test_starts_from_another_run(hands, tmp_path):
    once = TINY.replace(epochs=1, validation_images=0)
    first = train.train(hands, once, tmp_path / "first", "dev", quiet=True)
    # weights do not move at this learning rate
    still = once.replace(image_shape=(32, 32), learning_rate=1e-30, weight_decay=0.0)
    again = train.train(hands, still, tmp_path / "again", quiet=True, init=tmp_path / "first")
    for one, other in zip(first.trainable_weights, again.trainable_weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    notes = [load(tmp_path / run / "experiment.json")[1] for run in ("first", "again")]
    assert set(notes[0]["pixel_hashes"]) < set(notes[1]["pixel_hashes"])
    assert notes[1]["init"] == str(tmp_path / "first")

    # stopped after its first epoch, gone on with after those weights are gone
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "first", tmp_path / "gone")
    twice = still.replace(epochs=2)
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / 0)
    options = {"quiet": True, "init": tmp_path / "gone"}
    with pytest.raises(ZeroDivisionError):
        train.train(hands, twice, stopped, "dev", callbacks=[stop], **options)
    known = load(stopped / "experiment.json")[1]["pixel_hashes"]
    shutil.rmtree(tmp_path / "gone")
    train.train(hands, twice, stopped, "dev", resume=True, **options)
    assert load(stopped / "experiment.json")[1]["pixel_hashes"] == known
    assert len(known) > len(notes[0]["train_ids"])
    with pytest.raises(UsageError, match="started with init=.*first, not None"):
        train.train(hands, still, tmp_path / "again", resume=True)
    with pytest.raises(UsageError, match="trained on all images"):
        evaluate.evaluate(tmp_path / "again", hands)

    rng = np.random.default_rng(0)
    records = [
        (str(i), rng.integers(0, 255, (70, 60), np.uint8), rng.uniform(5, 55, (2, 2)))
        for i in range(4)
    ]
    other = preparation.write(tmp_path / "two", name="two", landmarks=["a", "b"], records=records)
    model = train.train(other, still, tmp_path / "other", quiet=True, init=tmp_path / "first")
    stems = [m.get_layer("stem_conv").get_weights()[0] for m in (first, model)]
    np.testing.assert_allclose(*stems, atol=1e-6)
    assert model.get_layer("head").get_weights()[0].shape[-1] == 2
    behind = load(tmp_path / "other" / "experiment.json")[1]["pixel_hashes"]
    assert set(notes[0]["pixel_hashes"]) < set(behind)  # `evaluate` refuses those as well

    # where nothing tells the images behind the weights, nothing does behind theirs
    first.save(tmp_path / "lonely.keras")
    train.train(hands, still, tmp_path / "next", "dev", quiet=True, init=tmp_path / "lonely.keras")
    assert run_folder.pixel_hashes_behind(tmp_path / "next") is None
    assert run_folder.pixel_hashes_behind(tmp_path / "again") is not None

    with pytest.raises(UsageError, match="its layer stem_conv has other weights"):
        narrow = once.replace(width=6)
        train.train(hands, narrow, tmp_path / "no", "dev", quiet=True, init=tmp_path / "first")
