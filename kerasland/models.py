"""The network: a functional U-Net whose named outputs are a dictionary."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from kerasland import settings
from kerasland.image_layers import BatchNormalization, DepthToSpace, ImageStandardization
from kerasland.layers import HeatmapDecoder, SpatialEmbedding

NORMALIZATIONS = {
    "batch": lambda channels, synchronized: BatchNormalization(
        momentum=0.95, synchronized=synchronized
    ),
    "group": lambda channels, _: keras.layers.GroupNormalization(groups=math.gcd(8, channels)),
    "layer": lambda channels, _: keras.layers.GroupNormalization(groups=1),
    "none": None,
}
LAST = {"data_format": "channels_last"}  # whatever Keras is set to


def unet(
    landmarks: int | Sequence[str] = 37,
    image_shape: tuple[int, int] = (512, 384),
    width: int = 32,
    max_width: int = 128,
    depth: int = 5,
    stem_stride: int = 4,
    output_stride: int = 4,
    normalization: str = "batch",
    synchronized: bool | None = None,
    dropout: float = 0.0,
    maps: str = "both",
    angle: str = "unit",
    beta: float = 1.0,
    learn_beta: bool = False,
    decode_radius_px: float = 8.0,
    name: str = "unet",
) -> keras.Model:
    """A U-Net with one heatmap a landmark (Ronneberger 2015), its decoder and its embedding.

    Level i of `depth` has min(width * 2 ** i, max_width) channels on a grid of stride
    stem_stride * 2 ** i; two convolutions a level on the way down, one on the way up after the
    skip connection is concatenated. The model standardises the intensities of each image itself.

    Args:
        landmarks: K, or K different names, which the model keeps, see `landmark_names`.
        image_shape: (H, W) of the input, pixels; multiples of stem_stride * 2 ** (depth - 1).
        width, max_width: channels of the first level, and at most.
        depth: levels.
        stem_stride: input pixels a cell of the first level, a power of 2; a convolution of stride
            2 for each halving.
        output_stride: input pixels a heatmap cell. Finer than the stem: the head makes
            sub-cells from channels. Coarser: the decoder stops early.
        normalization: "batch", "group", "layer" or "none", after each convolution.
        synchronized: whether "batch" takes its statistics over all replicas of a strategy; None:
            if there are several.
        dropout: fraction of channels dropped at the two deepest levels.
        maps: "cartesian", "polar", "both", or "none" for a plain U-Net without embedding.
        angle, beta, learn_beta: see `SpatialEmbedding`. beta is the decoder's as well, as it
            starts.
        decode_radius_px: half the width of the decoder's window, pixels of the input.
        name: the model's name.

    Returns:
        `keras.Model` from (B, H, W, 1), any range of intensities, to a dictionary:
        "heatmaps" (B, H / output_stride, W / output_stride, K), logits; "landmarks" (B, K, 2),
        (x, y) in pixels of the input; "confidence" (B, K) in [0, 1]; and, unless maps is
        "none", "embedding" (B, K, C).

    Raises:
        ValueError: if the shape is not divisible, a stride does not fit, names of landmarks repeat,
            another name is unknown, or a number can't be meant.
    """
    names = _names(landmarks)
    image_shape = settings.height_and_width(image_shape)
    width, max_width = settings.whole("width", width), settings.whole("max_width", max_width)
    depth = settings.whole("depth", depth)
    stem_stride = settings.whole("stem_stride", stem_stride)
    output_stride = settings.whole("output_stride", output_stride)
    settings.above_0("beta", beta)
    settings.above_0("decode_radius_px", decode_radius_px)
    if synchronized is None:
        synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {tuple(NORMALIZATIONS)}, not {normalization!r}"
        )
    if stem_stride & (stem_stride - 1):
        raise ValueError(f"stem_stride must be a power of 2, not {stem_stride}")
    coarsest = stem_stride * 2 ** (depth - 1)
    if any(side % coarsest for side in image_shape):
        raise ValueError(
            f"image_shape {image_shape} must be multiples of stem_stride * 2 ** (depth - 1)"
            f" = {coarsest}"
        )
    if output_stride > coarsest:
        raise ValueError(
            f"output_stride must be at most the last level's {coarsest}, not {output_stride}"
        )
    levels = [stem_stride * 2**level for level in range(depth)]
    if output_stride not in levels and stem_stride % output_stride:
        raise ValueError(
            f"output_stride {output_stride} is none of the levels' strides {levels}, and does not "
            f"divide stem_stride {stem_stride}"
        )

    def block(x, channels, name, strides=1, kernel=3):
        make = NORMALIZATIONS[normalization]
        x = keras.layers.Conv2D(
            channels,
            kernel,
            strides=strides,
            padding="same",
            **LAST,
            use_bias=make is None,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        if make is not None:
            x = make(channels, synchronized)(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)

    channels = [min(width * 2**level, max_width) for level in range(depth)]
    image = keras.Input((*image_shape, 1), name="image", dtype="float32")
    x = ImageStandardization(name="standardize")(image)
    halvings = stem_stride.bit_length() - 1
    for step in range(max(1, halvings)):
        x = block(
            x,
            max(1, channels[0] >> max(0, halvings - 1 - step)),
            f"stem{step + 1}" if step else "stem",
            strides=2 if halvings else 1,
            kernel=5 if halvings and step == 0 else 3,
        )
    skips = []
    for level in range(depth):
        if level > 0:
            x = keras.layers.MaxPooling2D(2, **LAST, name=f"down{level}_pool")(x)
            x = block(x, channels[level], f"down{level}_1")
        x = block(x, channels[level], f"down{level}_2")
        if dropout and level >= depth - 2:
            # not SpatialDropout2D, which forgets its dtype policy when it is saved
            x = keras.layers.Dropout(dropout, (None, 1, 1, None), name=f"down{level}_dropout")(x)
        skips.append(x)
    level = depth - 1
    while level > 0 and stem_stride * 2**level > output_stride:
        level -= 1
        x = keras.layers.UpSampling2D(  # in float32: XLA has no gradient of it in others
            2, **LAST, interpolation="bilinear", dtype="float32", name=f"up{level}_upsample"
        )(x)
        x = keras.layers.Concatenate(name=f"up{level}_skip")([skips[level], x])
        x = block(x, channels[level], f"up{level}")
    finer = max(1, stem_stride // output_stride)
    logits = keras.layers.Conv2D(len(names) * finer**2, 1, **LAST, name="head")(x)
    if finer > 1:
        logits = DepthToSpace(finer, name="depth_to_space")(logits)
    logits = keras.layers.Activation("linear", dtype="float32", name="heatmaps")(logits)
    radius_cells = max(2, round(decode_radius_px / output_stride))
    decoder = HeatmapDecoder(image_shape, radius_cells, beta, names, name="decoder")
    points, confidence = decoder(logits)
    outputs = {"heatmaps": logits, "landmarks": points, "confidence": confidence}
    if maps != "none":
        outputs["embedding"] = SpatialEmbedding(maps, angle, beta, learn_beta, name="embedding")(
            logits
        )
    return keras.Model(image, outputs, name=name)


def landmark_names(model: keras.Model) -> tuple[str, ...]:
    """The names of the landmarks of a model that `unet` made, in their order, as a tuple.

    Raises:
        ValueError: if the model has no decoder of kerasland's.
    """
    decoders = [layer for layer in model.layers if isinstance(layer, HeatmapDecoder)]
    if len(decoders) != 1:
        raise ValueError(
            f"model {model.name!r} has no HeatmapDecoder: it was not made by unet(), or lies in "
            "another, as in what pipeline() makes"
        )
    return decoders[0].names


def _names(landmarks: int | Sequence[str]) -> tuple[str, ...]:
    try:
        names = tuple(str(k) for k in range(operator.index(landmarks)))
    except TypeError:
        if isinstance(landmarks, str) or not isinstance(landmarks, Iterable):
            raise ValueError(
                f"landmarks={landmarks!r}: expected a number or a list of names"
            ) from None
        names = tuple(landmarks)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"landmarks={landmarks!r}: expected one or more, of different names")
    return names
