"""Everything that determines a run: one frozen dataclass, its presets, JSON there and back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from kerasland import __version__, files, settings
from kerasland.errors import DataError, UsageError
from kerasland.settings import choice, option, refuse

EXPERIMENT = "experiment.json"  # in the folder of a run
METHODS = {
    "unet": "none",
    "unet+cartesian": "cartesian",
    "unet+polar": "polar",
    "unet+cartesian+polar": "both",
}

MAX_SEED = 2_000_000  # a thousand times that, the epochs' part, stays within 32 bits
NETWORK = ("width", "max_width", "depth", "stem_stride", "output_stride", "normalization")


@dataclass(frozen=True)
class Experiment:
    """What a run is made of. `px` are pixels of the network's input.

    Raises:
        UsageError: naming a setting with an impossible value.
    """

    image_shape: tuple[int, int] = option((512, 384), "height and width of the network's input")
    width: int = option(
        32, "channels of the first level; each deeper level has twice as many", above=0
    )
    max_width: int = option(128, "channels at most", above=0)
    depth: int = option(5, "levels of the U-Net", least=1, below=17)
    stem_stride: int = option(4, "input pixels per cell of the first level")
    output_stride: int = option(4, "input pixels per heatmap cell")
    normalization: str = choice(
        "batch", "group", "layer", "none", default="batch", help="after each convolution"
    )
    dropout: float = option(
        0.0, "fraction of channels dropped at the two deepest levels", least=0, below=1
    )

    heatmap_loss: str = choice(
        "cross_entropy", "squared_error", default="cross_entropy", help="on the heatmaps"
    )
    sigma_px: float = option(2.0, "standard deviation of the Gaussian target", above=0)
    decode_radius_px: float = option(
        8.0,
        "the landmark is the mean of the heatmap within this distance of its peak along x and y; "
        "in whole heatmap cells, at least 2",
        above=0,
    )
    maps: str = choice(
        "none", "cartesian", "polar", "both", default="both", help="spatial feature maps"
    )
    angle: str = choice("unit", "raw", default="unit", help="polar angle as (cos, sin), or raw")
    correlation: str = choice(
        "cosine", "pearson", "inner", "distance", default="cosine", help="kind of correlation map"
    )
    configuration_weight: float = option(
        1.0, "lambda, the weight of the configuration loss", least=0
    )
    beta: float = option(
        1.0, "inverse temperature of the soft-argmax; 15 for squared_error", above=0
    )
    learn_beta: bool = option(False, "whether beta is trained")
    shape_prior: bool = option(
        False,
        "whether the saved model corrects points that all others contradict; images in which the "
        "subject is small or turned are then looked at again",
    )
    shape_posterior: bool = option(
        False,
        "whether the saved model weighs each point against all others, by the spread of its "
        "heatmap; for points along contours, not for those of hands",
    )

    epochs: int = option(60, "passes over the training images", above=0)
    batch_size: int = option(2, "images per step, over all replicas", above=0)
    learning_rate: float = option(4e-3, "at the end of the warm-up", above=0)
    optimizer: str = choice("adamw", "sgd", default="adamw", help="sgd is for tests of exactness")
    weight_decay: float = option(1e-3, "of AdamW", least=0)
    warmup_epochs: float = option(3.0, "linear warm-up, before the cosine decay", least=0)
    clip_norm: float = option(5.0, "global norm of the gradient at most", least=0)
    ema_momentum: float = option(
        0.99, "of the average of the weights; 0 for none", least=0, below=1
    )
    precision: str = choice(
        "float32",
        "bfloat16",
        "float16",
        "auto",
        default="float32",
        help="of the layers while training; weights, losses and the saved model are float32; "
        "auto: bfloat16 where the processor has it, else float32",
    )
    xla: bool = option(False, "whether XLA compiles the step; for GPUs")
    seed: int = option(0, "of weights, order and augmentation", least=0)
    replicas: int = option(
        0, "0: all GPUs, or one CPU; N: N GPUs or N logical CPU devices", least=0
    )
    validation_images: int = option(
        8, "training images held out for the curves and `best.keras`, at most a third", least=0
    )

    rotation_deg: float = option(20.0, "augmentation: rotation up to +- this", least=0)
    scale: float = option(0.2, "augmentation: scale within 1 +- this", least=0, below=1)
    shift: float = option(
        0.08, "augmentation: shift up to +- this fraction of the longer side", least=0
    )
    wide_fraction: float = option(
        0.0,
        "fraction of training images that are turned and made smaller by more, for hands that do "
        "not fill the picture",
        least=0,
        below=1,
    )
    wide_rotation_deg: float = option(45.0, "their rotation up to +- this", least=0)
    wide_scale: float = option(0.4, "their scale from this to 1", least=0.1, below=1)
    elastic_px: float = option(
        4.0, "augmentation: root mean square of the elastic displacement along an axis", least=0
    )
    gamma: float = option(0.4, "augmentation: exponent within e ** +- this", least=0)
    contrast: float = option(
        0.3,
        "augmentation: gain within 1 +- this at nine places, smooth and up to 1.6 times as far "
        "between them",
        least=0,
        below=1,
    )
    noise: float = option(
        0.03, "augmentation: standard deviation of added noise at most; the image is 0..1", least=0
    )

    def __post_init__(self):
        _check(self)

    @property
    def method(self) -> str:
        """The row of the ablation table that this experiment belongs to."""
        return {maps: method for method, maps in METHODS.items()}[self.maps]

    @property
    def coarsest_stride(self) -> int:
        """Pixels of the input a cell of the deepest level."""
        return self.stem_stride * 2 ** (self.depth - 1)

    def replace(self, **changes) -> Experiment:
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def with_settings(self, texts: list[str], network: Experiment | None = None) -> Experiment:
        """A copy with `key=value` texts applied, as given to `--set`.

        Args:
            texts: of settings; of a key that occurs twice the last counts.
            network: whose levels, widths and strides the copy has, where no text says otherwise.

        Raises:
            UsageError: naming the text, if a key does not exist or a value has another type.
        """
        changes = {key: getattr(network, key) for key in NETWORK} if network else {}
        try:
            changes |= dict(settings.parse(Experiment, text) for text in texts)
        except UsageError as error:
            raise UsageError(f"--set {error}") from None
        return from_dict({**dataclasses.asdict(self), **changes}, "--set")

    def save(self, path: Path, **notes) -> None:
        """Writes the experiment, with notes (data set, fold, versions) beside it, as JSON."""
        document = {"experiment": dataclasses.asdict(self), **notes}
        files.write_text(path, json.dumps(document, indent=2) + "\n")


def preset(name: str) -> Experiment:
    """One of the named presets.

    Raises:
        UsageError: if there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def load(path: Path) -> tuple[Experiment, dict]:
    """Reads what `Experiment.save` wrote: the experiment and the notes.

    Raises:
        DataError: if the file is missing, is not JSON, or holds a key that does not exist.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        values = dict(document.pop("experiment"))
    except FileNotFoundError:
        raise DataError(f"{path}: not found; a run is a folder that holds it") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(
            f"{path}: not an experiment's JSON; get a fresh copy, or train again"
        ) from None
    try:
        return from_dict(values, str(path)), document
    except UsageError as error:
        other = other_version(document)
        by = f" (written by kerasland {other}; this is {__version__})" if other else ""
        raise DataError(f"{error}{by}") from None


def other_version(notes: dict) -> str | None:
    """The version of kerasland that wrote the notes of an experiment, if it is not this one."""
    written = notes.get("versions", {}).get("kerasland")
    return None if written == __version__ else written


def from_dict(values: dict, source: str) -> Experiment:
    """An experiment from a dictionary.

    Args:
        values: settings by their names; those that are missing have their defaults.
        source: what a message begins with.

    Raises:
        UsageError: an unknown key, or an impossible value.
    """
    try:
        settings.check_keys(Experiment, values)
        return Experiment(**values)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


def _check(e: Experiment) -> None:
    settings.check(e)
    if e.seed > MAX_SEED:
        refuse(e, "seed", f"must be at most {MAX_SEED}")
    if e.stem_stride not in (1, 2, 4, 8):
        refuse(e, "stem_stride", "must be 1, 2, 4 or 8")
    coarsest = e.coarsest_stride
    if e.output_stride not in (1, 2, 4, 8) or e.output_stride > coarsest:
        refuse(e, "output_stride", f"must be 1, 2, 4 or 8, and at most {coarsest}")
    if any(side <= 0 or side % coarsest for side in e.image_shape):
        reason = f"must be multiples of stem_stride * 2 ** (depth - 1) = {coarsest}"
        refuse(e, "image_shape", reason)
    two_components = e.maps == "cartesian" or (e.maps == "polar" and e.angle == "raw")
    if e.correlation == "pearson" and two_components:
        refuse(e, "correlation", f"needs three components, maps={e.maps} has two; use maps=both")
    if e.shape_posterior and (e.shape_prior or e.heatmap_loss != "cross_entropy"):
        refuse(e, "shape_posterior", "needs shape_prior=false and heatmap_loss=cross_entropy")
    if e.heatmap_loss == "squared_error" and e.beta < 12:
        refuse(e, "beta", "is too flat for heatmaps within 0..1; with squared_error use beta=15")


QUICK = Experiment(
    image_shape=(256, 192),
    max_width=96,
    depth=4,
    epochs=20,
    batch_size=4,
    shift=0.05,
    elastic_px=2.0,
)
CPU = Experiment()
PAPER = Experiment(
    width=64,
    max_width=256,
    depth=6,
    stem_stride=2,
    output_stride=2,
    sigma_px=3.0,
    epochs=200,
    batch_size=8,
    precision="auto",
)
PRESETS = {"quick": QUICK, "cpu": CPU, "paper": PAPER}
