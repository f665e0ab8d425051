"""The README's first lines on a fresh machine: install, predict, the main job."""

import os
import re
import resource
import shutil
import subprocess

import pages
import pandas as pd
import pytest
from PIL import Image

from kerasland import phantom


def processor_minutes() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


@pytest.mark.slow
def test_the_main_job_on_a_fresh_machine(tmp_path):
    """A checkout of its own, an environment of its own, and the README's first lines, word for word
    but for the epochs of the main job, 8 of 20, so that the minutes of the README go unchecked."""
    checkout = tmp_path / "checkout"
    made_here = [".git", ".venv", "runs", "data", "build", "*.egg-info", "*cache*"]
    shutil.copytree(pages.ROOT, checkout, ignore=shutil.ignore_patterns(*made_here))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    install, predict, main_job, *_ = pages.commands(pages.README)
    before, job = main_job.rsplit(" && ", 1)
    assert before == install
    job = f"{job} --set epochs=8"
    Image.fromarray(phantom.hand(0, (700, 500))[0]).save(checkout / "hand.png")
    with (tmp_path / "log.txt").open("w") as log:

        def run(command):
            done = subprocess.run(
                ["bash", "-c", command], cwd=checkout, env=environment, stdout=log, stderr=log
            )
            assert done.returncode == 0, (tmp_path / "log.txt").read_text()[-3000:]

        run(install)
        run(predict)
        used = processor_minutes()
        run(job)
        minutes = processor_minutes() - used
    assert len(pd.read_csv(checkout / "predicted" / "landmarks.csv")) == 37
    assert len(list((checkout / "predicted" / "overlays").iterdir())) == 1
    said = (tmp_path / "log.txt").read_text()
    print(f"{said[-4000:]}\n{job}: {minutes:.1f} processor minutes")
    assert minutes <= 10  # a clock would count what other tests take
    out = checkout / "runs" / "reproduce"
    table = pd.read_csv(out / "ablation.csv").set_index("method")
    assert list(table.index) == [
        "mean_shape", "unet", "unet+cartesian", "unet+polar", "unet+cartesian+polar",
    ]  # fmt: skip
    mean = table["error_mm_mean"]
    assert (mean.iloc[1:] <= mean["mean_shape"] / 5).all(), mean
    for name in ("ablation.md", "ablation.tex", "paired.md", "cumulative_error.png", "worst.png"):
        assert (out / name).stat().st_size > 100, name
    for method in table.index[1:]:
        assert (out / "runs" / f"{method}_dev_seed0" / "evaluation" / "errors.csv").exists()
        assert re.search(rf"{re.escape(method)}, .*: epoch \d+/\d+, .* min left", said)
