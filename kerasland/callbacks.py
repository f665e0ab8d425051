"""What happens beside training: averaged weights, checkpoints, repeatable dropout, progress."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from kerasland import files
from kerasland.errors import DataError
from kerasland.inference_models import bare

CHECKPOINTS = "checkpoints"


class Averaging(keras.callbacks.Callback):
    """Validates with the averaged weights and keeps the best of them in a file.

    Afterwards the weights are what they were, to the bit: `keras.callbacks.SwapEMAWeights` swaps by
    sums and differences, which round.

    Args:
        best: `.keras` file for the weights with the least validation error.
        averaged: whether the optimiser keeps an average.
    """

    def __init__(self, best: Path, averaged: bool):
        super().__init__()
        self.best_path = best
        self.averaged = averaged

    def on_train_begin(self, logs=None):
        note = self.best_path.with_suffix(".json")
        self.least = json.loads(note.read_text())["error"] if note.exists() else np.inf

    def on_test_begin(self, logs=None):
        if self.averaged:
            self.current = self.model.get_weights()
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def on_test_end(self, logs=None):
        error = next((logs[key] for key in logs if "radial_error" in key), np.nan)
        if error < self.least:
            self.least = float(error)
            with files.replacing(self.best_path) as temporary:
                bare(self.model).save(temporary)
            files.write_text(
                self.best_path.with_suffix(".json"), json.dumps({"error": self.least}) + "\n"
            )
        if self.averaged:
            self.model.set_weights(self.current)


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: the model with its optimiser, and the row of `history.csv`.

    The number of epochs is in the file's name, so that a kill at any moment leaves a whole
    checkpoint that knows its epoch.
    """

    def __init__(self, folder: Path, history: Path, first_epoch: int):
        super().__init__()
        self.folder, self.history = folder, history
        self.rows = []
        if first_epoch:
            try:
                known = pd.read_csv(history).astype({"epoch": int, "seconds": float})
                self.rows = known[known["epoch"] < first_epoch].to_dict("records")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{history}: not as it was written ({error!r}); delete {folder} to train from "
                    "the start"
                ) from error

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        for name, of in (("loss", "the loss"), ("val_loss", "the loss of the validation images")):
            if not np.isfinite(logs.get(name, 0)):
                raise DataError(
                    f"{self.history.parent}: {of} is {logs[name]} in epoch {epoch + 1}: try a "
                    "smaller learning_rate or configuration_weight"
                )
        rate = float(self.model.optimizer.learning_rate)
        seconds = time.monotonic() - self.began
        self.rows.append({"epoch": epoch, "seconds": seconds, "learning_rate": rate, **logs})
        with files.replacing(self.history) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        path = self.folder / f"epoch_{epoch + 1:05d}.keras"
        with files.replacing(path) as temporary:
            self.model.save(temporary)
        for older in self.folder.glob("epoch_*.keras"):
            if older != path:
                older.unlink()


class Reseeding(keras.callbacks.Callback):
    """Makes dropout depend on (seed, layer, epoch, step) alone, since `.keras` files do not hold
    the state of the generators and a resumed run would draw other numbers."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        generators = [layer.seed_generator for layer in self.model.layers if _draws(layer)]
        for position, generator in enumerate(generators):
            state = [self.seed * len(generators) + position, epoch * 2**16]
            generator.state.assign(np.array(state, dtype="uint32"))


class Progress(keras.callbacks.Callback):
    """One line that moves on a terminal; a line now and then in a log file."""

    def __init__(self, title: str, first_epoch: int, every_s: float = 10.0):
        super().__init__()
        self.title, self.first_epoch, self.every_s = title, first_epoch, every_s
        self.terminal, self.width = sys.stderr.isatty(), 0

    def on_train_begin(self, logs=None):
        self.started = time.monotonic()
        self.shown = 0.0
        if self.first_epoch:
            print(f"{self.title}: resumed after epoch {self.first_epoch}", file=sys.stderr)

    def on_epoch_end(self, epoch, logs=None):
        epochs, now = self.params["epochs"], time.monotonic()
        last, done = epoch + 1 == epochs, epoch + 1 - self.first_epoch
        if done == 1:
            self.first_ended = now
        if not self.terminal and not last and now - self.shown < self.every_s:
            return
        self.shown = now
        # the first takes longer: TensorFlow makes its graph
        each = (now - self.first_ended) / (done - 1) if done > 1 else now - self.started
        minutes, seconds = divmod(round(each * (epochs - epoch - 1)), 60)
        text = f"{self.title}: epoch {epoch + 1}/{epochs}, loss {logs['loss']:.3f}"
        for unit in ("mm", "px"):
            error = logs.get(f"val_landmarks_radial_error_{unit}")
            if error is not None:
                text += f", validation error {error:.2f} {unit}"
        text += f", {'at most ' if done == 1 and not last else ''}{minutes}:{seconds:02} min left"
        end = "\n" if last or not self.terminal else ""
        if self.terminal:  # spaces hide the rest of a longer line: not every terminal can erase one
            text, self.width = f"\r{text.ljust(self.width)}", len(text)
        print(text, end=end, file=sys.stderr, flush=True)


def _draws(layer: keras.layers.Layer) -> bool:
    return isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator)
