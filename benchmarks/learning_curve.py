"""How many annotated radiographs does it take? The error on the test list of `dev` by their number.

    python -m benchmarks.learning_curve --data data/hand_atlas

Trained on the first 10, 20, 40 and all of the shuffled training list, each part of the next, by the
preset `cpu`, from drawn hands and from random weights, with as many steps whatever their number.
What stands in the table is not trained again; the folder of the trainings may be deleted.
"""

from __future__ import annotations

from kerasland import machine

machine.compute_with_onednn()

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kerasland import dataset, evaluate, experiment, plots, prepared, train
from kerasland.figure_style import CYCLE, DPI, clean
from kerasland.files import replacing
from kerasland.folds import write_fold

FOLDER = Path(__file__).parent
TABLE = FOLDER / "results" / "learning_curve.csv"
FIGURE = FOLDER.parent / "docs" / "learning_curve.png"
KEYS = ["data", "weights", "seed", "images"]
EPOCHS = {"drawn_hands": 10, "random": 20}  # of the whole list, see cost_of_result
WARMUP = {"drawn_hands": 0.5 / 10, "random": 3 / 20}  # of them
SETTINGS = {"drawn_hands": ["learning_rate=2e-3"], "random": []}
LABELS = {"drawn_hands": "from drawn hands", "random": "from random weights"}


def nested(data: prepared.Prepared, sizes: list[int], seed: int, folder: Path) -> prepared.Prepared:
    """The same data set with a fold for each size, called by it; the images stay where they are."""
    learn, test = data.fold("dev")
    shuffled = np.random.default_rng(seed).permutation(learn)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (prepared.ABOUT, prepared.TABLE):
        shutil.copy(data.folder / name, folder / name)
    if not (folder / "images").is_symlink():
        (folder / "images").symlink_to((data.folder / "images").resolve())
    for size in sizes:
        write_fold(folder, str(size), (shuffled[:size], test))
    return prepared.read(folder)


def trained(
    data: prepared.Prepared, size: int, most: int, weights: str, seed: int, out: Path
) -> dict:
    """A row of the table, by as many steps as those of `most` images."""
    base = experiment.preset("cpu")
    steps, steps_of_most = (dataset.steps_per_epoch(n, base.batch_size) for n in (size, most))
    epochs = round(EPOCHS[weights] * steps_of_most / steps)
    settings = [*SETTINGS[weights], f"epochs={epochs}", f"warmup_epochs={WARMUP[weights] * epochs}"]
    settings += [f"seed={seed}", "validation_images=0", "precision=auto"]
    run = out / f"{weights}_{size}_{seed}"
    train.train(
        data,
        base.with_settings(settings),
        run,
        str(size),
        resume=run.exists(),
        title=run.name,
        init="drawn_hands" if weights == "drawn_hands" else None,
    )
    summary = evaluate.evaluate(run, data)
    shown = ("error_mm_mean", "error_mm_mean_low", "error_mm_mean_high", "sdr_2mm", "minutes")
    return {
        "data": data.hash[:12],
        "weights": weights,
        "seed": seed,
        "images": size,
        "epochs": epochs,
        **{key: round(summary[key], 4) for key in shown},
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Error against the number of radiographs: a dot a training, a line through the means."""
    figure = Figure(figsize=(6, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for weights, colour in zip(("random", "drawn_hands"), CYCLE, strict=False):
        part = table[table["weights"] == weights]
        mean = part.groupby("images")["error_mm_mean"].mean()
        axes.plot(mean.index, mean, color=colour, label=LABELS[weights])
        axes.plot(part["images"], part["error_mm_mean"], ".", color=colour)
    axes.set(xscale="log", ylim=(0, 1.1 * table["error_mm_mean"].max()))
    axes.set(xlabel="radiographs trained on", ylabel="mean error on the test list (mm)")
    sizes = sorted(set(table["images"]))
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    clean(axes)
    axes.legend(frameon=False)
    plots.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the prepared hand atlas")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_curve"))
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    data = prepared.read(args.data)
    sizes = [10, 20, 40, len(data.fold("dev")[0])]
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=KEYS)
    for seed in range(args.seeds):
        parts = nested(data, sizes, seed, args.out / f"data_{seed}")
        for weights in EPOCHS:
            for size in sizes:
                known = (table[KEYS] == [data.hash[:12], weights, seed, size]).all(axis=1)
                if not known.any():
                    row = pd.DataFrame([trained(parts, size, sizes[-1], weights, seed, args.out)])
                    table = pd.concat([table, row], ignore_index=True) if len(table) else row
                    with replacing(TABLE) as temporary:
                        table.sort_values(KEYS).to_csv(temporary, index=False)
    table = table[table["data"] == data.hash[:12]].sort_values(KEYS)
    draw(table, FIGURE)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
