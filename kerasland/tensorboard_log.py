"""What TensorBoard shows of a training: curves, pictures, the settings of runs side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kerasland import correlations, overlays, plots
from kerasland.dataset import Frames
from kerasland.experiment import Experiment
from kerasland.prepared import Prepared

FOLDER = "tensorboard"  # in that of a run
MOMENTS = 4  # of a training, about, besides its first epoch, at which pictures are drawn
IMAGES = 3
DPI = 100
WHEN = (
    "Training: augmented images, the weights of each step. "
    "Validation: images as they are, averaged weights."
)


class TensorBoardLog(keras.callbacks.Callback):
    """Scalars grouped by meaning, pictures of what the network sees, the settings.

    Training and validation share the charts: `train/` and `validation/` hold the same tags.
    Pictures and settings are in the one of them that is watched, so that the tab HPARAMS shows the
    errors of that one and names each run by its folder.

    Args:
        folder: the log's folder.
        experiment: shown as text and as hparams, with `init`.
        data: the data set, for millimetres.
        frames: images to watch; the first few are drawn.
        watched: "validation", or "train" where no images are held out.
        init: the weights that the training starts from; None: random ones.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        data: Prepared,
        frames: Frames,
        watched: str,
        init: str | None = None,
    ):
        super().__init__()
        self.experiment = experiment
        self.init = init
        self.writers = {
            part: tf.summary.create_file_writer(str(folder / part))
            for part in dict.fromkeys(("train", watched))
        }
        self.watched = self.writers[watched]
        self.ids = frames.ids[:IMAGES]
        self.images = frames.images[:IMAGES]
        self.points = frames.points[:IMAGES]
        self.shrunk = frames.shrunk[:IMAGES]
        self.spacing = data.spacing[data.index(self.ids)] * self.shrunk[:, None]

    def on_train_begin(self, logs=None):
        from tensorboard.plugins.hparams import api as hparams

        values = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in dataclasses.asdict(self.experiment).items()
        }
        values["init"] = self.init or "random weights"
        table = "\n".join(f"| {key} | {value} |" for key, value in values.items())
        with self.watched.as_default(step=0):
            tf.summary.text("settings", "| setting | value |\n|---|---|\n" + table)
            hparams.hparams(values, trial_id="")  # so that a trial is called as its folder

    def on_epoch_begin(self, epoch, logs=None):
        every = max(1, self.experiment.epochs // MOMENTS)
        self.due = epoch + 1 if epoch == 0 or (epoch + 1) % every == 0 else None

    def on_test_end(self, logs=None):
        self._pictures()

    def on_epoch_end(self, epoch, logs=None):
        self._pictures()  # where nothing is validated
        for key, value in (logs or {}).items():
            part = "validation" if key.startswith("val_") else "train"
            with self.writers[part].as_default(step=epoch + 1):
                tag, description = self._scalar(key.removeprefix("val_"))
                tf.summary.scalar(tag, value, description=description)
        with self.writers["train"].as_default(step=epoch + 1):
            rate = float(self.model.optimizer.learning_rate)
            tf.summary.scalar("optimizer/learning_rate", rate)
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        for writer in self.writers.values():
            writer.close()

    def _scalar(self, key: str) -> tuple[str, str]:
        """The tag and the meaning of a key of the logs: `loss/heatmaps` for `heatmaps_loss`."""
        e = self.experiment
        losses = {
            "loss": ("loss/total", "The sum of the terms, each times its weight."),
            "heatmaps_loss": ("loss/heatmaps", f"Heatmap loss, {e.heatmap_loss}."),
            "embedding_loss": (
                "loss/configuration",
                f"Spatial configuration loss, before its weight of {e.configuration_weight:g}.",
            ),
        }
        if key in losses:
            tag, meaning = losses[key]
        else:
            name = key.removeprefix("landmarks_")
            tag = f"error/{name}"
            meaning = "Mean distance from the annotation."
            if name.startswith("sdr"):
                meaning = "Percentage of landmarks within this distance of the annotation."
        return tag, f"{meaning} {WHEN}"

    def _pictures(self) -> None:
        if self.due is None:
            return
        step, self.due = self.due, None
        images = self.images.astype("float32")[..., None]
        outputs = {k: np.asarray(v) for k, v in self.model(images, training=False).items()}
        overlaid = [
            overlays.overlay(image, found, truth, None, scale, image_id, shrunk)
            for image, found, truth, scale, image_id, shrunk in zip(
                self.images,
                outputs["landmarks"],
                self.points,
                self.spacing,
                self.ids,
                self.shrunk,
                strict=True,
            )
        ]
        of_first = {name: values[:1] for name, values in outputs.items()}
        maps = correlations.predicted_and_annotated(of_first, self.points[0], self.experiment)
        with self.watched.as_default(step=step):
            _write("overlays/landmarks", overlaid, "Predicted and annotated landmarks.")
            _write(
                "similarity/correlation_map",
                plots.single_correlation_maps(*maps),
                f"Correlation maps of {self.ids[0]}: predicted, annotated, their difference.",
            )


def log_test(folder: Path, epochs: int, errors: dict[str, float]) -> None:
    """Adds the errors of test images to the log of a training, for the tab HPARAMS too.

    Args:
        folder: the log's; where it holds none, nothing is written.
        epochs: of the training.
        errors: by name, such as "error_mm_mean"; what is not known is left out.
    """
    watched = next((p for name in ("validation", "train") if (p := folder / name).is_dir()), None)
    if watched is None:
        return
    with tf.summary.create_file_writer(str(watched)).as_default(step=epochs):
        for name, value in errors.items():
            if np.isfinite(value):
                tf.summary.scalar(f"test/{name}", value, description="Of the fold's test list.")


def _write(tag: str, figures: list[Figure], description: str) -> None:
    pictures = np.stack([_pixels(figure) for figure in figures])
    tf.summary.image(tag, pictures, max_outputs=len(pictures), description=description)


def _pixels(figure: Figure) -> np.ndarray:
    """A figure as (H, W, 3) uint8."""
    figure.dpi = DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
