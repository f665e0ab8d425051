"""What must stay cheap, with a wide margin; beside the network, as ratios of one run.

The figures themselves come from `make benchmark`; see benchmarks/results.
"""

from functools import partial

import numpy as np
import pytest

from benchmarks import input_pipeline, measure, spatial_term
from kerasland import experiment, phantom

QUICK = experiment.preset("quick")


def test_a_hand_is_drawn_soon(alone):
    with alone():
        seconds = [measure.seconds(partial(phantom.hand, i, (1400, 1000))) for i in range(5)]
    assert np.median(seconds) < 0.3


@pytest.mark.slow
def test_the_spatial_configuration_term_stays_cheap(alone):
    with alone():
        assert spatial_term.share(pairs=3).median < 0.05  # measured: see its benchmark


@pytest.mark.slow
def test_the_input_pipeline_stays_cheap(alone):
    source = input_pipeline.frames(None, QUICK.image_shape)
    with alone():
        assert input_pipeline.sink_over_training(source, QUICK, pairs=2, batches=12).median < 0.2
        assert input_pipeline.waiting(source, QUICK, repeats=2, batches=12).median < 0.1


def test_ratios_and_their_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "latest.json")
    costs = iter([9.0, 1.0, 2.0, 4.0, 3.0, 4.0, 1.0, 4.0])  # the first pair warms up
    ratio = measure.compare(lambda: next(costs), lambda: next(costs), pairs=3)
    assert (ratio.low, ratio.median, ratio.high) == (0.25, 0.5, 0.75)
    never = measure.Ratio((float("inf"), 1.0))
    rows = [
        measure.row("kept", ratio, 0.5, "a peer", "a command"),
        measure.row("missed", ratio, 0.4, "a peer", "a command"),
        measure.row("never", never, 0.4, "a peer", "a command"),
        measure.row("no device", None, 0.4, "a peer", "a command"),
    ]
    assert [entry["holds"] for entry in rows] == [True, False, False, None]
    measure.record(rows)
    again = {**rows[0], "ratio": 0.25}
    elsewhere = {**rows[0], "machine": "another avx2"}
    measure.record([again, elsewhere])
    known = measure.json.loads(measure.RESULTS.read_text())
    assert known == [again, elsewhere, *rows[1:]]
    assert "over the limit: missed; never" in capsys.readouterr().err
    on_a_gpu = measure.row("no device", ratio, 0.5, "a peer", "a command", "NVIDIA H200")
    measure.record([on_a_gpu])
    measure.record(rows[3:])  # nothing measured takes the place of nothing
    known = measure.json.loads(measure.RESULTS.read_text())
    assert [entry for entry in known if entry["name"] == "no device"] == [on_a_gpu]
    cells = measure.table([on_a_gpu]).splitlines()[-1].split(" | ")
    assert cells[5] == "NVIDIA H200" and measure.table(rows).splitlines()[-1].split(" | ")[5] == ""
