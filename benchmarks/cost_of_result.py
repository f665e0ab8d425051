"""Minutes of training until the mean error on the `dev` test split stays under 1.25 and 1.0 mm.

kerasland against two peers in PyTorch that are trained by the same recipe on the same images, at
half the preset's size and in larger batches, which suits them: the plain prototype network, and the
spatial configuration network of the package landmarker. Where there are several lengths of the
schedule, the best counts. kerasland also starts from its weights of drawn hands, at a lower rate;
the minutes that made those weights, which come with the package, do not count. In one run,
trainings take turns, a seed each. Time counts the steps and what is drawn for TensorBoard, not
kerasland's checkpoints (0.1 s an epoch) nor the tests that make the curve.

    python -m benchmarks.cost_of_result --data data/hand_atlas [--peer-python PATH]

`--only NAME` trains one of them and takes the other curves as they are in
`results/cost_of_result.csv`: of the same kind of processor, but not in turns with them. That table
keeps what other kinds took.
"""

from __future__ import annotations

from kerasland import machine

machine.compute_with_onednn()

import argparse
import dataclasses
import itertools
import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import measure
from benchmarks.peers import LANDMARKER, TORCH, peer_python
from kerasland import dataset, experiment, plots, prepared, run_folder, train
from kerasland.figure_style import DPI
from kerasland.files import replacing

COMMAND = "python -m benchmarks.cost_of_result --data data/hand_atlas"
FOLDER = Path(__file__).parent
CURVES = FOLDER / "results" / "cost_of_result.csv"
FIGURE = FOLDER.parent / "docs" / "cost_of_result.png"
LIMITS_MM = (1.25, 1.0)
SCN_TIMES = 15  # how much longer landmarker's network must take
EPOCHS = 40
LIGHT = ["learning_rate=2e-3", "warmup_epochs=0.5"]
OURS = {  # name: weights to start from, epochs of the schedules, settings beside the preset's
    "cpu preset": (None, [EPOCHS // 2], []),
    "cpu preset from drawn hands": ("drawn_hands", [5, 10], LIGHT),
}
# heatmaps of stride 2 and so of the same number of cells, and a target of half a cell
PEER_SIZE = ["image_shape=256x192", "stem_stride=2", "output_stride=2", "sigma_px=1"]
PEER_SIZE += ["elastic_px=2", "batch_size=4"]  # with two, as ours, the prototype takes longer
PEERS = {
    "prototype": ("the prototype in PyTorch", TORCH),
    "scn": ("landmarker's SCN in PyTorch", [*TORCH, LANDMARKER]),
}


class Curve(keras.callbacks.Callback):
    """Tests the averaged weights after each epoch; its time does not count."""

    def __init__(self, frames: dataset.Frames, mm_per_px: np.ndarray, history: Path):
        super().__init__()
        self.frames, self.mm_per_px, self.history = frames, mm_per_px, history
        self.errors = []

    def on_epoch_end(self, epoch, logs=None):
        current = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        images = self.frames.images[..., None].astype("float32")
        parts = np.array_split(images, -(-len(images) // 8))
        found = [np.asarray(self.model(part, training=False)["landmarks"]) for part in parts]
        self.model.set_weights(current)
        distance = np.linalg.norm(np.concatenate(found) - self.frames.points, axis=-1)
        self.errors.append(float(np.nanmean(distance * self.mm_per_px[:, None])))

    def rows(self) -> pd.DataFrame:
        seconds = pd.read_csv(self.history)["seconds"].cumsum()
        epochs = range(1, len(self.errors) + 1)
        return pd.DataFrame({"epoch": epochs, "seconds": seconds, "error_mm": self.errors})


def seconds_to(curve: pd.DataFrame, limit_mm: float) -> float:
    """When the error goes under the limit for good; infinite if it never does."""
    over = np.flatnonzero(curve["error_mm"].to_numpy() >= limit_mm)
    after = over[-1] + 1 if len(over) else 0
    return float(curve["seconds"].iloc[after]) if after < len(curve) else float("inf")


def ours(data, test, settings, init: str | None, out: Path) -> pd.DataFrame:
    mm_per_px = data.mm_per_px[data.index(test.ids)] * test.shrunk
    watch = Curve(test, mm_per_px, out / run_folder.HISTORY)
    train.train(data, settings, out, "dev", callbacks=[watch], title=out.name, init=init)
    return watch.rows()


def theirs(python: Path, network: str, frames: Path, seed: int, out: Path, *extra) -> pd.DataFrame:
    command = [python, FOLDER / "peer_training.py", frames, "--network", network]
    command += ["--seed", seed, "--out", out, *extra]
    subprocess.run([str(part) for part in command], check=True)
    return pd.read_csv(out)


def write_frames(data: prepared.Prepared, settings: experiment.Experiment, path: Path) -> None:
    """The images of both lists of `dev` for the peers, and by what settings to train on them."""
    learn, test = data.fold("dev")
    frames = dataset.load_frames(data, learn + test, settings.image_shape)
    learnt, tested = frames[: len(learn)], frames[len(learn) :]
    with replacing(path) as temporary:
        np.savez(
            temporary,
            train_images=learnt.images,
            train_points=learnt.points,
            test_images=tested.images,
            test_points=tested.points,
            test_mm_per_px=data.mm_per_px[data.index(test)] * tested.shrunk,
            settings=json.dumps({**dataclasses.asdict(settings), "beta_2": train.BETA_2}),
        )


def best(curves: pd.DataFrame, network: str, limit_mm: float) -> list[float]:
    """Seconds to the limit for each seed, by the schedule with the least median."""
    part = curves[curves["network"] == network]
    table = part.groupby(["schedule", "seed"])[["seconds", "error_mm"]].apply(
        lambda curve: seconds_to(curve, limit_mm)
    )
    table = table.unstack("seed")
    return table.loc[table.median(axis=1).idxmin()].tolist()


def rows(curves: pd.DataFrame) -> list[dict]:
    """The record: our seconds over the peer's, seed by seed; a peer that never gets there counts
    with all the time that it was given, so that the true ratio is smaller."""
    found = []
    trained = set(curves["network"])
    for limit, name, network in itertools.product(LIMITS_MM, OURS, PEERS):
        if network in trained and (network != "scn" or limit == LIMITS_MM[0]):
            peer = PEERS[network][0]
            mine = best(curves, name, limit)
            given = curves[curves["network"] == network].groupby(["schedule", "seed"])["seconds"]
            longest = float(given.max().max())
            theirs = [min(seconds, longest) for seconds in best(curves, network, limit)]
            ratio = measure.Ratio(tuple(a / b for a, b in zip(mine, theirs, strict=False)))
            least = 0.5 if network == "prototype" else 1 / SCN_TIMES
            work = f"training to {limit} mm, {name}, against {peer}"
            found.append(measure.row(work, ratio, least, peer, COMMAND))
    return found


def draw(curves: pd.DataFrame, path: Path) -> None:
    """Error against minutes, a line a training, a colour a network."""
    figure = Figure(figsize=(7, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    colours = dict(zip([*OURS, *PEERS], ["#E69F00", "#D55E00", "#0072B2", "#555555"], strict=True))
    titles = {name: f"kerasland, {name}" for name in OURS}
    titles |= {name: text for name, (text, _) in PEERS.items()}
    for (network, _, seed), curve in curves.groupby(["network", "schedule", "seed"]):
        label = titles[network] if seed == 0 else None
        axes.plot(curve["seconds"] / 60, curve["error_mm"], color=colours[network], label=label)
    for limit in LIMITS_MM:
        axes.axhline(limit, color="#999999", linewidth=0.8, linestyle="--")
    axes.set(xlabel="minutes of training", ylabel="mean error on the test split (mm)")
    axes.set(xscale="log", yscale="log", ylim=(0.7, 60))
    axes.set_yticks([0.75, 1.0, 1.25, 2, 5, 20], ["0.75", "1", "1.25", "2", "5", "20"])
    minutes = [0.1, 0.25, 0.5, 1, 2, 4, 8, 16]
    axes.set_xticks(minutes, [f"{value:g}" for value in minutes])
    axes.minorticks_off()
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=2)
    plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the prepared hand atlas")
    parser.add_argument("--out", type=Path, default=Path("runs/cost_of_result"))
    parser.add_argument("--peer-python", type=Path, help="a Python with PyTorch and landmarker")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", default="auto", help="of kerasland")
    parser.add_argument("--only", choices=[*OURS, *PEERS], help="train this one alone")
    parser.add_argument(
        "--scn-minutes", type=float, default=15.0, help="for the SCN; 0: not trained"
    )
    args = parser.parse_args()
    if any(args.out.glob("ours_*")):
        parser.error(f"{args.out}: holds trainings already; choose another --out, or delete it")
    processor = measure.processor(measure.machine())
    known = pd.read_csv(CURVES)
    here = known[known["processor"] == processor]
    if args.only and here.empty:
        parser.error(f"{CURVES.name} has no curves of {processor}: train all, without --only")
    data = prepared.read(args.data)
    base = experiment.preset("cpu").replace(validation_images=0, precision=args.precision)
    frames = args.out / "frames.npz"
    write_frames(data, base.with_settings([*PEER_SIZE, f"epochs={EPOCHS}"]), frames)
    test = dataset.load_frames(data, data.fold("dev")[1], base.image_shape)
    wanted = {args.only} if args.only else {*OURS, *PEERS}
    if args.scn_minutes <= 0:
        wanted.discard("scn")
    curves = [here[~here["network"].isin(wanted)]]
    pythons = {
        name: peer_python(packages, args.peer_python)
        for name, (_, packages) in PEERS.items()
        if name in wanted
    }

    def add(network: str, epochs: int, seed: int, curve: pd.DataFrame) -> None:
        of = {"network": network, "schedule": epochs, "seed": seed, "processor": processor}
        curves.append(curve.assign(**of))
        reached = ", ".join(f"{limit} mm: {seconds_to(curve, limit):.0f} s" for limit in LIMITS_MM)
        last = curve["error_mm"].iloc[-1]
        print(f"{network}, {epochs} epochs, seed {seed}: {last:.3f} mm; {reached}", flush=True)

    for seed in range(args.seeds):
        for i, (name, (init, schedules, settings)) in enumerate(OURS.items()):
            for epochs in schedules if name in wanted else ():
                mine = base.replace(epochs=epochs, seed=seed).with_settings(settings)
                run = args.out / f"ours_{i}_{epochs}_{seed}"
                add(name, epochs, seed, ours(data, test, mine, init, run))
        for epochs in (EPOCHS // 2, EPOCHS) if "prototype" in pythons else ():
            path, length = args.out / f"prototype_{epochs}_{seed}.csv", ("--epochs", epochs)
            curve = theirs(pythons["prototype"], "prototype", frames, seed, path, *length)
            add("prototype", epochs, seed, curve)
    if "scn" in pythons:
        limits = ("--epochs", EPOCHS, "--minutes", args.scn_minutes)
        curve = theirs(pythons["scn"], "scn", frames, 0, args.out / "scn.csv", *limits)
        add("scn", EPOCHS, 0, curve)
    table = pd.concat(curves, ignore_index=True)
    with replacing(CURVES) as temporary:
        others = known[known["processor"] != processor]
        pd.concat([others, table], ignore_index=True).to_csv(temporary, index=False)
    draw(table, FIGURE)
    measure.record(rows(table))


if __name__ == "__main__":
    main()
