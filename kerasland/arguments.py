"""What the command line takes: the verbs and their options."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasland import __version__, experiment, settings


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs; `verb` of what it parses is the name of one."""
    whole = argparse.ArgumentParser(
        prog="kerasland",
        description="Landmark localisation in hand radiographs with a spatial configuration loss.",
        epilog="example:\n  kerasland predict hand.png --out landmarks\n\n"
        "python -m data_prep.points_csv makes a data set of your images and points.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=__version__)
    verbs = whole.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(name, summary, example):
        made = verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  kerasland {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(verb=name)
        made.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return made

    def experiment_options(made, default):
        described = settings.describe(experiment.Experiment)
        made.epilog += (
            "\n\nsettings of --set, as the preset cpu has them (px: of the network's input):"
        )
        made.epilog += f"\n{described}"
        made.add_argument("--preset", metavar="P", help=f"quick, cpu or paper (default: {default})")
        made.add_argument(
            "--set",
            action="extend",
            nargs="+",
            default=[],
            metavar="KEY=VALUE",
            help="change a setting of the preset, such as epochs=50; repeatable, the last counts",
        )
        made.add_argument("--replicas", type=int, metavar="N", help="how many GPUs, or CPU devices")

    made = verb(
        "reproduce",
        "train and evaluate the four variants of the ablation, and write its tables and figures",
        "--data hands --folds dev --out results",
    )
    made.add_argument(
        "--data", type=Path, metavar="DIR", help="prepared data set (default: drawn hands)"
    )
    made.add_argument(
        "--folds",
        default="dev",
        metavar="F",
        help="names of folds, separated by commas, or 3 for set1,set2,set3 (default: dev)",
    )
    made.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="trainings per variant and fold (default: 1)",
    )
    made.add_argument(
        "--init",
        metavar="RUN|FILE|pretrained|drawn_hands",
        help="every training starts from these weights, with their network",
    )
    made.add_argument(
        "--out",
        type=Path,
        default=Path("runs/reproduce"),
        metavar="DIR",
        help="default: runs/reproduce",
    )
    experiment_options(made, "cpu, or quick for drawn hands")

    made = verb("train", "train one model", "--data hands --fold dev --out runs/first")
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared data set")
    made.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    made.add_argument("--fold", metavar="F", help="use its training list (default: all images)")
    made.add_argument("--resume", action="store_true", help="continue after the last full epoch")
    made.add_argument(
        "--init",
        metavar="RUN|FILE|pretrained|drawn_hands",
        help="start from these weights, with their network (from experiment.json beside them); for "
        "other landmarks the last layer is new; drawn_hands has seen no radiograph (default: "
        "random weights)",
    )
    experiment_options(made, "cpu")

    made = verb(
        "crossvalidate",
        "estimate the error from every image, each tested by a model that was not trained on it",
        "--data hands --folds set1,set2,set3 --final --out runs/hands",
    )
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared data set")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of runs")
    made.add_argument(
        "--folds",
        default="3",
        metavar="F,F",
        help="names of folds, separated by commas, or 3 for set1,set2,set3 (default: 3)",
    )
    made.add_argument(
        "--init",
        metavar="RUN|FILE|pretrained|drawn_hands",
        help="every training starts from these weights, with their network",
    )
    made.add_argument(
        "--final",
        action="store_true",
        help="also train on all images; --out is then a run whose model states its error in mm",
    )
    experiment_options(made, "cpu")

    made = verb(
        "evaluate",
        "measure the errors of a model on images that it was not trained on",
        "runs/first --data hands --fold dev",
    )
    made.add_argument(
        "run",
        metavar="RUN|FILE|pretrained",
        help="a run's folder, a .keras file in one, or pretrained",
    )
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared data set")
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--fold",
        metavar="F",
        help="use the test list of fold F, or every image with 'all' (default: the run's fold)",
    )
    which.add_argument("--ids", type=Path, metavar="FILE", help="image ids, one a line")
    made.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="default: RUN/evaluation, or RUN/evaluation_NAME for a data set of other images; "
        "needed for a FILE and for pretrained",
    )

    made = verb(
        "report",
        "write one HTML file to look at: tables, curves and every test image of evaluated runs",
        "runs/first --out first.html",
    )
    made.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="the folder of a run, of a cross-validation or of an evaluation; others are compared "
        "with the first",
    )
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML file")
    made.add_argument(
        "--data", type=Path, metavar="DIR", help="the prepared data set, if it was moved since"
    )

    made = verb("predict", "find the landmarks of images", "hand.png --out landmarks")
    made.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help='files, folders or quoted patterns such as "study/**/*.dcm"; PNG, TIFF, JPEG, and '
        "with kerasland[dicom] DICOM (any name), MetaImage, NIfTI",
    )
    made.add_argument(
        "--model",
        default="pretrained",
        metavar="RUN|FILE|pretrained",
        help="a run's folder, a .keras file, or pretrained (default: pretrained)",
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    made.add_argument(
        "--side",
        default="left",
        metavar="left|right|auto",
        help="right: images are mirrored before the network, for models of left hands such as the "
        "pretrained one; auto: only if the landmarks form no hand otherwise; points are always in "
        "the image as it is (default: left)",
    )
    made.add_argument(
        "--mm-per-px",
        type=float,
        metavar="MM",
        help="millimetres per pixel, for images that do not state it (default: from two landmarks, "
        "if the model was trained that way)",
    )
    made.add_argument(
        "--names", action="store_true", help="write the landmarks' names into the overlays"
    )
    made.add_argument(
        "--labelme",
        action="store_true",
        help="also write DIR/labelme, one file per image, to correct the landmarks in: "
        "labelme IMAGES --output DIR/labelme",
    )

    made = verb(
        "export",
        "write a model as one file or folder that takes a raw image and returns landmarks",
        "runs/first --out hand.onnx",
    )
    made.add_argument(
        "model", metavar="RUN|FILE|pretrained", help="a run's folder, a .keras file, or pretrained"
    )
    made.add_argument(
        "--format",
        metavar="F",
        help="onnx, litert or saved_model (default: by the ending of --out)",
    )
    made.add_argument(
        "--weights",
        default="float32",
        metavar="float32|float16|bfloat16|int8",
        help="float16: half the size, still computed in float32; bfloat16 (SavedModel only): half "
        "the size, computed in bfloat16; int8 (ONNX only): a quarter of the size, computed in "
        "8 bits, faster (default: float32)",
    )
    made.add_argument(
        "--dtype",
        default="uint8",
        metavar="uint8|uint16",
        help="of the image; uint16 takes pixels of 9 to 16 bits as they are (default: uint8)",
    )
    made.add_argument(
        "--calibrate",
        nargs="+",
        metavar="IMAGE",
        help="for int8: at least a dozen images like those that the model is for (default: drawn "
        "hands, for a model of hands)",
    )
    made.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="a file.onnx, a file.tflite (LiteRT), or a new folder (SavedModel)",
    )
    return whole
