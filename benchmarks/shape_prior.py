"""What does the shape prior do to pictures that it is made for, and to those that it is not?

    python -m benchmarks.shape_prior runs/hand_atlas --data data/hand_atlas --table TABLE

Each model of a cross-validation with `--final`, on its test radiographs: as they are, with the last
joint and the tip of a finger blacked out, with a finger painted over or cut off, small, turned or
beside another, and made into no positive of a left hand. Where errors are known, also the share of
points within the radius that is said to hold 95 %, by the calibration of the final model. With a
table of annotations (id and pairs x, y, as `data_prep.hand_atlas` reads it), also how many points
of the hands that are not in the data set would be moved if they were found as annotated.

`--picture docs/second_look.jpg` draws some of these pictures with what is found, and no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from data_prep.hand_atlas import read_table
from kerasland import expected_errors, geometry, prepared, shapes, table_files
from kerasland.images import read_image
from kerasland.localizers import localizer
from kerasland.model_files import load_model
from kerasland.phantom import FINGERS, LANDMARK_NAMES
from kerasland.pictures import Drawing
from kerasland.progress import track
from kerasland.shape_layers import ShapePrior

TIPS = ("little", "index", "thumb", "middle")  # that are blacked out, by turns
JOINTS = {"thumb": ("mcp", "ip", "tip"), **dict.fromkeys(FINGERS, ("mcp", "pip", "dip", "tip"))}
FAR_MM, BELIEVED = 10, 0.5
PAINT_MM, BEYOND_MM = 20, 8
SHOWN = ("2.5 times as high", "beside its mirror", "turned by 90°", "turned by 35° in the middle")
SHOWN_PX = 360  # height


def hidden(image: np.ndarray, points: np.ndarray, tip: int, joint: int) -> np.ndarray:
    """The image with a tip, the joint before it and what lies between them blacked out."""
    beyond = points[tip] + 0.3 * (points[tip] - points[joint])
    margin = 0.6 * np.linalg.norm(points[tip] - points[joint])
    left, top = (np.minimum(points[joint], beyond) - margin).astype(int).clip(0)
    right, bottom = (np.maximum(points[joint], beyond) + margin).astype(int)
    image = image.copy()
    image[top:bottom, left:right] = image.min()
    return image


def without_a_finger(
    image: np.ndarray, points: np.ndarray, mm_per_px: float
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pictures in which a finger, or the end of one, can't be seen, each with all points: those of
    fingers that are cut off may lie outside."""
    for finger, joints in JOINTS.items():
        chain = points[[LANDMARK_NAMES.index(f"{finger}_{joint}") for joint in joints]]
        chain[0] += 0.35 * (chain[1] - chain[0])  # the knuckle stays
        tip = chain[-1] - chain[-2]
        chain[-1] += tip / np.linalg.norm(tip) * BEYOND_MM / mm_per_px
        picture = Image.fromarray(image)
        level, width = int(np.percentile(image, 5)), round(PAINT_MM / mm_per_px)
        ImageDraw.Draw(picture).line([*map(tuple, chain)], level, width, "curve")
        yield f"its {finger} finger painted over", np.asarray(picture), points
    for side, shares in (("left", (0.15, 0.2)), ("upper", (0.1, 0.15))):
        for share in shares:
            x, y = np.round(np.multiply(image.shape[::-1], share)).astype(int)
            x, y = (x, 0) if side == "left" else (0, y)
            yield f"its {side} {share:.0%} cut off", image[y:, x:], points - (x, y)


def changed(image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of no left hand, or not as a positive."""
    yield "mirrored, a right hand", image[:, ::-1]
    yield "negative", image.max() - image
    yield "its upper half", image[: len(image) // 2]
    noise = np.random.default_rng(0).uniform(0, 255, image.shape)
    yield "noise", noise.astype(np.uint8)


def on_a_plate(
    image: np.ndarray, points: np.ndarray, factor: float, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """The image in the middle of one so many times as high and wide, of one grey level, and its
    points."""
    shape = np.round(np.multiply(image.shape, factor)).astype(int)
    top, left = (shape - image.shape) // 2
    plate = np.full(shape, level, image.dtype)
    plate[top : top + len(image), left : left + image.shape[1]] = image
    return plate, points + (left, top)


def turned(image: np.ndarray, points: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The image turned by so many degrees against the clock, dark where it was not, and its
    points."""
    dark = int(image.min())
    turned = Image.fromarray(image).rotate(angle, Image.BILINEAR, expand=True, fillcolor=dark)
    before, after = (np.subtract(size, 1) / 2 for size in (image.shape[::-1], turned.size))
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.asarray(turned), (points - before) @ [[cos, -sin], [sin, cos]] + after


def smaller_or_turned(
    image: np.ndarray, points: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pictures of a left hand that is small, turned, or beside another, each with its points."""
    for factor in (1.25, 1.5, 1.75, 2.0, 2.5):
        name = f"in the middle of a dark picture {factor:g} times as high and wide"
        yield name, *on_a_plate(image, points, factor, image.min())
    edge = int(np.median(image[0]))
    name = "in the middle of a picture as bright as its edge 2 times as high and wide"
    yield name, *on_a_plate(image, points, 2.0, edge)
    yield "beside its mirror image, a right hand", np.hstack([image, image[:, ::-1]]), points
    for angle in (15, 35, 60, 90, 180):
        yield f"turned by {angle}°", *turned(image, points, angle)
    name = "turned by 35° in the middle of a dark picture 2 times as high and wide"
    yield name, *on_a_plate(*turned(image, points, 35), 2.0, image.min())


def rows_of(run: Path, data: prepared.Prepared, expected) -> Iterator[dict]:
    """One row per picture: what it shows, points moved, whether it is a hand, the error in mm (of
    all points, where they are known), the share of points within their radius of 95 %, and of
    hidden tips the error before and after.

    Args:
        run: the folder of one fold.
        data: the prepared hands.
        expected: what `expected_errors.of_model` returns.
    """
    model = load_model(run)
    localize, frame_shape = localizer(model), model.input_shape[1:3]
    before_the_prior = keras.Model(model.inputs[0], model.get_layer("decoder").output[0])
    for n, image_id in enumerate(track(data.fold(run.name)[1], f"{run.name}: localising")):
        image = read_image(data.image_path(image_id))
        (row,) = data.index((image_id,))
        points, mm_per_px = data.points[row], data.mm_per_px[row]
        finger = TIPS[n % len(TIPS)]
        tip = data.landmarks.index(f"{finger}_tip")
        joint = data.landmarks.index(f"{finger}_{JOINTS[finger][-2]}")
        pictures = [
            ("as it is", image, points),
            ("a tip and its joint blacked out", hidden(image, points, tip, joint), None),
            *without_a_finger(image, points, mm_per_px),
            *smaller_or_turned(image, points),
            *((name, picture, None) for name, picture in changed(image)),
        ]
        for name, picture, truth in pictures:
            found, confidence = localize(picture)
            outcome = {"picture": name, "hand": bool(confidence.any())}
            outcome["moved"] = int((confidence == 0).sum()) if outcome["hand"] else 0
            if truth is not None and outcome["hand"]:
                errors = np.linalg.norm(found - truth, axis=-1) * mm_per_px
                far = errors > FAR_MM
                outcome |= {"error": errors.mean(), "far": far.sum()}
                outcome["believed"] = (far & (confidence > BELIEVED)).sum()
                radius = expected(confidence[None])[0]["error_mm_95"]
                outcome["within"] = (errors <= radius)[np.isfinite(radius)].mean()
            if name.startswith("a tip"):
                frame = geometry.letterboxed(picture, frame_shape)[None, ..., None]
                raw = before_the_prior.predict_on_batch(frame)[0]
                raw = geometry.letterbox(picture.shape, frame_shape).invert(raw)
                outcome["before"], outcome["after"] = (
                    np.linalg.norm(p[tip] - points[tip]) * mm_per_px for p in (raw, found)
                )
            yield outcome


def drawn(run: Path, data: prepared.Prepared) -> Image.Image:
    """Some pictures of the first test radiograph of a fold, with the landmarks found, in a row."""
    localize, image_id = localizer(load_model(run)), data.fold(run.name)[1][0]
    image, row = read_image(data.image_path(image_id)), data.index((image_id,))[0]
    pictures = []
    for name, picture, _ in smaller_or_turned(image, data.points[row]):
        if any(part in name for part in SHOWN):
            marked = Drawing(picture).marked(*localize(picture))
            pictures.append(marked.resize((SHOWN_PX * marked.width // marked.height, SHOWN_PX)))
    whole = Image.new(
        "RGB", (sum(picture.width + 8 for picture in pictures) - 8, SHOWN_PX), "white"
    )
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + 8
    return whole


def moved_as_annotated(points: np.ndarray, known: np.ndarray) -> int:
    """How many of points (N, K, 2) are moved, of full confidence or none, by what `known` tells."""
    prior = ShapePrior()
    prior.build((None, *points.shape[1:]), (None, points.shape[1]))
    prior.set_weights(shapes.fit(known))
    confidence = np.full(points.shape[:2], 0.99, "float32")
    return int((np.array(prior(points.astype("float32"), confidence)[1]) == 0).sum())


def main() -> None:
    """Prints a row a kind of picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="what `kerasland crossvalidate --final` wrote")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="annotations of further hands")
    parser.add_argument("--picture", type=Path, help="to draw, instead of measuring")
    args = parser.parse_args()
    data = prepared.read(args.data)
    if tuple(data.landmarks) != LANDMARK_NAMES:
        parser.error(f"{args.data}: its landmarks are not those of the hand atlas")
    folds = dict.fromkeys(table_files.read_errors(args.run / table_files.ERRORS)["fold"])
    if args.picture:
        drawn(args.run / next(iter(folds)), data).save(args.picture, quality=85)
        return
    expected = expected_errors.of_model(load_model(args.run))
    table = pd.DataFrame(
        [row for fold in folds for row in rows_of(args.run / fold, data, expected)]
    )
    print(
        "| picture | images | said to be no such shape | points moved in the others | their mean "
        f"error, mm | over {FAR_MM} mm | of these of a confidence over {BELIEVED} "
        "| within their 95 % radius, % |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, rows in table.groupby("picture", sort=False):
        known = rows.dropna(subset=["error"])
        errors = " |  |  | "
        if len(known):
            within = 100 * known["within"].mean()
            far, believed = known[["far", "believed"]].sum().astype(int)
            errors = f"{known['error'].mean():.2f} | {far} | {believed} | {within:.1f}"
        print(
            f"| {name} | {len(rows)} | {(~rows['hand']).sum()} | {rows['moved'].sum()} | {errors} |"
        )
    tips = table.dropna(subset=["after"])
    for when in ("before", "after"):
        errors = tips[when]
        print(
            f"hidden tips, {when} the shape prior: {errors.mean():.1f} mm, median "
            f"{errors.median():.1f}, {(errors > FAR_MM).sum()} of {len(errors)} over {FAR_MM} mm"
        )
    if args.table:
        others = {i: row.points for i, row in read_table(args.table).items() if i not in data.ids}
        points = np.stack(list(others.values()))
        print(
            f"{moved_as_annotated(points, data.points)} of {points[..., 0].size} annotated points "
            f"of {len(points)} hands that are not in the data set would be moved"
        )


if __name__ == "__main__":
    main()
