"""Prepares drawn hand radiographs with known landmarks: data that anyone can make."""

from __future__ import annotations

from pathlib import Path

from data_prep import common
from kerasland import synthetic
from kerasland.command import leave, run


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = common.parser(
        "synthetic",
        "Draws hand radiographs with known landmarks, and a fold dev (80 to 20).",
        "--count 200 --seed 0 --out data/synthetic",
    )
    parser.add_argument("--count", type=int, required=True, help="hands to draw")
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other hands (default: 0)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        default=(1400, 1000),
        metavar=("H", "W"),
        help="pixels (default: 1400 1000)",
    )
    args = parser.parse_args(argv)

    def body() -> None:
        dataset = synthetic.write(args.out, args.count, args.seed, tuple(args.shape))
        train, test = dataset.fold("dev")
        print(f"fold dev: {len(train)} train, {len(test)} test, a split made here")
        common.report(dataset)

    return run(body, args.debug)


if __name__ == "__main__":
    leave(main())
