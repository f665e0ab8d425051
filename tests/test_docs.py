"""The documentation: every code block runs, the site builds strictly and needs no network."""

import dataclasses
import itertools
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser

import pages
import pandas as pd
import pytest

import kerasland
from kerasland import arguments
from kerasland.experiment import PRESETS, Experiment, preset
from kerasland.settings import meaning, written

DOCS = sorted((pages.ROOT / "docs").glob("*.md"))
BLOCKS = {page.stem: pages.blocks(page.read_text(encoding="utf-8")) for page in DOCS}
EXECUTED = [page for page in DOCS if any(b.language in pages.RUN for b in BLOCKS[page.stem])]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_no_block_escapes_by_its_language(page):
    for block in BLOCKS[page.stem]:
        assert block.language in pages.RUN + pages.SHOWN, f"{page.name}, line {block.line}"


def test_a_failing_block_fails_its_page(tmp_path):
    page = tmp_path / "page.md"
    for code in (
        "```sh\nfalse\n```",
        "```sh\nfalse | cat\n```",
        "```python\nx = 1\n```\n\n```python\nassert x == 2\n```",
    ):
        page.write_text(f"Text.\n\n{code}\n")
        assert run(page, tmp_path).returncode != 0, code
    page.write_text(
        "```python\nx = 1\n```\n\n```text\nfalse\n```\n\n```python\nassert x == 1\n```\n"
    )
    assert run(page, tmp_path).returncode == 0


def columns(row: str) -> int:
    """Of a row of a table; a | within code or behind a backslash separates none."""
    return len(re.sub(r"`[^`]*`|\\\|", "", row).strip().strip("|").split("|"))


def test_the_rows_of_a_table_have_as_many_columns_as_its_header():
    """Where the line below the header has others, GitHub shows no table."""
    tables = 0
    for page in [*DOCS, *pages.ROOT.glob("*.md"), *pages.ROOT.glob("*/README.md")]:
        lines = page.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if re.fullmatch(r"\|( *:?-+:? *\|)+", line):
                rows = [lines[number - 1], *itertools.takewhile(is_row, lines[number:])]
                assert len({columns(row) for row in rows}) == 1, f"{page}, line {number + 1}"
                tables += 1
    assert tables > 50


def test_the_table_of_all_settings():
    """Every setting, its value in each preset (blank: as in `cpu`) and its meaning."""
    others = [name for name in PRESETS if name != "cpu"]
    lines = [
        f"| setting | `cpu` | {' | '.join(f'`{name}`' for name in others)} | meaning |",
        "|---" * (len(others) + 3) + "|",
    ]
    for item in dataclasses.fields(Experiment):
        usual = getattr(PRESETS["cpu"], item.name)
        there = [getattr(PRESETS[name], item.name) for name in others]
        cells = [written(usual), *("" if value == usual else written(value) for value in there)]
        lines.append(f"| `{item.name}` | {' | '.join(cells)} | {meaning(item)} |")
    table = "\n".join(lines)
    page = (pages.ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"\n\n{table}\n\n" in page, f"docs/training.md should hold:\n{table}"


def is_row(line: str) -> bool:
    return line.startswith("|")


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_the_code_of_a_page(page, tmp_path):
    done = run(page, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def run(page, folder) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, pages.__file__, page],
        cwd=folder,
        env=pages.ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )


def shown(page) -> list[str]:
    """The commands of a page that are shown and not run with it."""
    code = "".join(block.code for block in BLOCKS[page] if block.language == "console")
    return code.replace("\\\n", " ").splitlines()


def shell(command, folder) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=pages.ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    return done.stdout


def test_each_command_that_is_only_shown_has_a_test():
    here = {"data", "own_data", "speed"}
    elsewhere = {
        "export": ("test_serve.py", ["app.py", "curl"]),
        "model_card": ("test_cross_validate.py", ["drawn_hands", "pretrained"]),
        "training": ("test_tensorboard.py", ["--logdir"]),
    }
    assert {page.stem for page in DOCS if shown(page.stem)} == here | set(elsewhere)
    for page, (name, words) in elsewhere.items():
        for command, word in zip(shown(page), words, strict=True):
            assert word in command
            assert word in (pages.ROOT / "tests" / name).read_text(encoding="utf-8")


def test_the_command_line_knows_the_options_of_what_is_only_shown():
    known = [line for page in BLOCKS for line in shown(page) if line.startswith("kerasland ")]
    for command in known:
        args = arguments.parser().parse_args(shlex.split(command)[1:])
        if getattr(args, "set", None):
            preset(args.preset or "cpu").with_settings(args.set, None)
    assert len(known) == 6


@pytest.mark.slow
def test_the_commands_for_the_digital_hand_atlas(hand_atlas, tmp_path):
    (tmp_path / "DHA").symlink_to(hand_atlas)
    said = [shell(command, tmp_path) for command in shown("data")]
    assert len(said) == 2 and "112" in said[0]


@pytest.mark.slow
def test_the_commands_for_ones_own_radiographs(tmp_path):
    """Of the hands that the page draws; the training cut short, all else word for word."""
    drawn = next(block.code for block in BLOCKS["own_data"] if block.language == "python")
    (tmp_path / "draw.py").write_text(drawn)
    shell("python draw.py", tmp_path)
    for command in shown("own_data")[:5]:
        cut = " epochs=1" if " --set " in command else ""
        shell(command + cut, tmp_path)
    errors = pd.read_csv(tmp_path / "runs" / "mine" / "evaluation" / "errors.csv")
    assert errors["landmark"].nunique() == 8
    assert (tmp_path / "saved_model" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_the_commands_for_chest_radiographs(chest, tmp_path):
    """The trainings cut short and of one seed, all else word for word."""
    (tmp_path / "chest").symlink_to(chest)
    commands = shown("own_data")[5:]  # those before are of anyone's data
    assert [line.split()[1] for line in commands[2:]] == ["reproduce", "train", "evaluate"]
    for command in commands:
        command = command.replace(" --seeds 3", "")
        if " --set " in command:
            command += " epochs=1 image_shape=64x64 sigma_px=1.5 validation_images=0"
            if "--init" not in command:
                command += " width=8 max_width=16 depth=3"
        shell(command, tmp_path)
    table = (tmp_path / "runs" / "chest" / "ablation.md").read_text(encoding="utf-8")
    assert "30 test images" in table and "0.35 mm per px" in table


@pytest.mark.slow
def test_the_install_without_a_gpu_resolves():
    """What pip would install; the packages themselves, 400 MB, are not fetched."""
    for command in shown("speed"):
        assert command.count("pip install") == 1
        command = command.replace("pip install", f"{sys.executable} -m pip install --dry-run -q")
        shell(command, pages.ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does, where no proxy and so no network answers."""
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(module, reason=f"{module}: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=pages.ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class _Page(HTMLParser):
    """What a browser loads with a page, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.loaded, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "link" and values.get("rel") in ("canonical", "next", "prev"):
            return
        if tag in ("script", "img", "iframe", "link", "source"):
            self.loaded += [values[key] for key in ("src", "href", "srcset") if values.get(key)]

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.slow
def test_the_site_needs_no_network(site):
    built = sorted(site.rglob("*.html"))
    assert {page.stem for page in DOCS} <= {page.stem for page in built}
    for page in built:
        for address in _Page(page.read_text(encoding="utf-8")).loaded:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_formulas_are_drawn_by_the_browser_itself(site):
    html = (site / "method.html").read_text(encoding="utf-8")
    assert html.count("<math") > 20 and "<msub>" in html
    for page in site.glob("*.html"):
        words = "".join(_Page(page.read_text(encoding="utf-8")).words)
        assert "arithmatex" not in page.read_text(encoding="utf-8"), page.name
        assert not re.search(r"\\(frac|mathrm|left|sum)\b", words), page.name


@pytest.mark.slow
def test_the_reference_is_generated(site):
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert "Sub-pixel landmarks" in reference
    for name, home in kerasland._HOMES.items():
        assert f'id="kerasland.{home}.{name}"' in reference


@pytest.mark.slow
def test_a_page_fits_a_phone_and_its_links_are_underlined(site, browser):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get((site / "method.html").as_uri())
    root = "return document.documentElement"
    widths = [browser.execute_script(f"{root}.{name}Width") for name in ("scroll", "client")]
    assert widths[0] == widths[1]
    link = browser.find_element("css selector", "article p > a:not(.headerlink)")
    assert link.value_of_css_property("text-decoration-line") == "underline"
