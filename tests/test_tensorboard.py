"""TensorBoard over a run, in a real browser: each tab shows what the docs promise of it."""

import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from kerasland import synthetic, train
from kerasland.__main__ import main
from kerasland.experiment import Experiment

LIMIT_S = 60
TINY = Experiment(
    image_shape=(64, 48),
    width=8,
    max_width=16,
    depth=3,
    sigma_px=1.5,
    epochs=2,
    validation_images=3,
)
TABS = {
    "timeseries": ("radial_error_mm", "sdr_2mm", "loss", "optimizer"),
    "scalars": ("error/radial_error_mm", "error/sdr_2mm", "loss/total"),
    "images": ("overlays/", "similarity/"),
    "text": ("image_shape", "64"),
    "hparams": ("maps", "both", "none", "first/", "second/", "test/error_mm_mean"),
}
# all that a page shows, whatever the components it is hidden in
EVERYTHING = """
const texts = [], pictures = [];
(function visit(node) {
  if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent);
  if (node.nodeName === "IMG") pictures.push(node);
  if (["SCRIPT", "STYLE"].includes(node.nodeName)) return;
  if (node.shadowRoot) visit(node.shadowRoot);
  node.childNodes.forEach(visit);
})(document.body);
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a TensorBoard over the folder of two runs that differ in a setting."""
    folder = tmp_path_factory.mktemp("board")
    hands = synthetic.write(folder / "hands", 12, shape=(140, 100))
    for name, maps in (("first", "both"), ("second", "none")):
        experiment = TINY.replace(maps=maps)
        train.train(hands, experiment, folder / "runs" / name, "dev", quiet=True)
        assert main(["evaluate", str(folder / "runs" / name), "--data", str(hands.folder)]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from tensorboard.main import run_main; run_main()"
    flags = ["--logdir", folder / "runs", "--host", "127.0.0.1", "--port", port]
    command = [sys.executable, "-c", code, *flags, "--load_fast=false"]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    try:
        _wait(lambda: _runs(port), f"runs in {folder / 'log.txt'}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def _runs(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs") as answer:
            known = answer.read()
            return b"first" in known and b"second" in known
    except OSError:
        return False


def _wait(condition, what: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LIMIT_S, f"no {what} after {LIMIT_S} s"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("tab", TABS)
def test_a_tab_shows_what_is_promised(address, browser, tab):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(f"{address}#{tab}")

    def shown() -> bool:
        text = browser.execute_script(EVERYTHING + "return texts.join(' ')")
        return all(part in re.sub(r"\s+", " ", text) for part in TABS[tab])

    _wait(shown, f"{', '.join(TABS[tab])} in {tab}")
    if tab == "images":
        loaded = EVERYTHING + "return pictures.filter(p => p.naturalWidth > 100).length"
        _wait(lambda: browser.execute_script(loaded) >= 1, "picture")
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in severe if "127.0.0.1" in entry["message"]], severe
