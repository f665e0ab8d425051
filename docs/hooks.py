"""What `mkdocs build` adds to the pages: formulas as MathML, the table of the settings."""

from __future__ import annotations

import dataclasses
import html
import re

from latex2mathml import converter

from kerasland.experiment import PRESETS, Experiment
from kerasland.settings import meaning, written

SETTINGS = "<!-- settings -->"
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, **_) -> str:
    """Puts the table of all settings where a page asks for it."""
    return markdown.replace(SETTINGS, settings_table())


def on_page_content(content: str, **_) -> str:
    """Formulas as MathML, which browsers draw without a script or a font from elsewhere."""
    return FORMULA.sub(_formula, content)


def _formula(found: re.Match) -> str:
    display = "block" if found[1] == "div" else "inline"
    return converter.convert(html.unescape(found[2]).strip(), display=display)


def settings_table() -> str:
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
    return "\n".join(lines)
