"""The command line: parses and calls, nothing else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kerasland import arguments, command, experiment, machine


def main(argv: list[str] | None = None) -> int:
    """Runs one verb.

    Returns:
        0; 1 where the work failed; 2 for wrong usage; 130 or 143 where Ctrl-C or SIGTERM ended it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    args = arguments.parser().parse_args(argv)
    return command.run(lambda: VERBS[args.verb](args), args.debug)


def script() -> None:
    """`main`, in a process of its own."""
    command.leave(main())


@contextmanager
def _interrupted(how: str) -> Iterator[None]:
    """Has Ctrl-C say how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (f"{how} goes on after the last whole epoch",)
        raise


def _experiment(args, default: str, init: str | None = None):
    settings = [*args.set, *([] if args.replicas is None else [f"replicas={args.replicas}"])]
    network = None
    if init is not None:
        from kerasland import model_notes

        network = model_notes.experiment_of(init)
    return experiment.preset(args.preset or default).with_settings(settings, network)


def _start_tensorflow() -> None:
    """Called before a verb imports it, and after what can be refused without it."""
    machine.compute_with_onednn()
    machine.import_keras()


def _reproduce(args) -> None:
    from kerasland import prepared

    chosen = _experiment(args, "cpu" if args.data else "quick", args.init)
    data = prepared.read(args.data) if args.data else None
    _start_tensorflow()
    from kerasland import reproduce

    with _interrupted("the same command"):
        reproduce.reproduce(args.out, data, chosen, _folds(args.folds), args.seeds, args.init)
    for name in ("ablation.md", "paired.md"):
        if (args.out / name).exists():  # no pairs where no error is known of all
            print((args.out / name).read_text(encoding="utf-8"))
    print(f"written to {args.out}")


def _train(args) -> None:
    from kerasland import prepared

    chosen = _experiment(args, "cpu", args.init)
    data = prepared.read(args.data)
    _start_tensorflow()
    from kerasland import train

    with _interrupted("the same command with --resume"):
        train.train(data, chosen, args.out, args.fold, args.resume, init=args.init)
    print(f"written to {args.out}")


def _crossvalidate(args) -> None:
    from kerasland import prepared

    chosen = _experiment(args, "cpu", args.init)
    data, folds = prepared.read(args.data), _folds(args.folds)
    _start_tensorflow()
    from kerasland import cross_validate

    with _interrupted("the same command"):
        cross_validate.cross_validate(args.out, data, chosen, folds, args.init, args.final)
    print((args.out / "table.md").read_text(encoding="utf-8"))
    print(f"written to {args.out}")


def _folds(text: str) -> tuple[str, ...]:
    return ("set1", "set2", "set3") if text == "3" else tuple(text.split(","))


def _evaluate(args) -> None:
    from kerasland import folds, model_notes, prepared

    model_notes.existing(args.run)
    ids = folds.read_ids(args.ids) if args.ids else None
    data = prepared.read(args.data)
    _start_tensorflow()
    from kerasland import evaluate

    out = Path(evaluate.evaluate(args.run, data, args.fold, ids, args.out)["folder"])
    print((out / "table.md").read_text(encoding="utf-8"))
    print(f"written to {out}")


def _report(args) -> None:
    from kerasland import report_runs

    report_runs.read(args.runs)  # what is wrong with them is told at once
    machine.import_keras()  # without oneDNN: it looks at one image at a time
    from kerasland import report

    report.report(args.runs, args.out, args.data)
    print(f"written to {args.out}")


def _predict(args) -> None:
    from kerasland import image_files, model_notes, predictions
    from kerasland.scale import Scale

    Scale(mm_per_px=args.mm_per_px)  # what is wrong with it is told at once
    predictions.check_out(args.out, args.labelme)
    paths = image_files.find_images(args.images, args.out)
    scale = model_notes.model_scale(args.model)
    _start_tensorflow()
    from kerasland import model_files, predict

    model = model_files.load_model(args.model)
    options = args.side, scale, args.mm_per_px, args.names, args.labelme
    count, strange = predict.predict_files(paths, model, args.out, *options)
    written = f"{predictions.TABLE}, {predictions.DOCUMENT}, {predictions.OVERLAYS}/"
    if args.labelme:
        written += f", {predictions.LABELME}/"
    seen = f"{count} image{'s'[: count > 1]}{predict.without_shape(strange)}"
    print(f"{seen}, written to {args.out}: {written}")


def _export(args) -> None:
    from kerasland import model_notes

    if model_notes.model_scale(args.model) is None:
        why = "no experiment.json beside it says what its millimetres are"
        print(f"{args.model}: {why}, so the export has no mm_per_px", file=sys.stderr)
    machine.import_keras()
    from kerasland import export, image_files, images, model_files

    calibration = None
    if args.calibrate:
        calibration = map(images.read_image, image_files.find_images(args.calibrate))
    model = model_files.load_model(args.model)
    options = args.format, args.weights, calibration
    export.export(model, args.out, *options, source=args.model, dtype=args.dtype)
    print(f"written to {args.out}")


VERBS = {
    "reproduce": _reproduce,
    "train": _train,
    "crossvalidate": _crossvalidate,
    "evaluate": _evaluate,
    "report": _report,
    "predict": _predict,
    "export": _export,
}


if __name__ == "__main__":
    script()
