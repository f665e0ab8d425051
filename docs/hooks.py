"""What `mkdocs build` makes of the pages: formulas as MathML."""

from __future__ import annotations

import html
import re

from latex2mathml import converter

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_) -> str:
    """Formulas as MathML, which browsers draw without a script or a font from elsewhere."""
    return FORMULA.sub(_formula, content)


def _formula(found: re.Match) -> str:
    display = "block" if found[1] == "div" else "inline"
    drawn = converter.convert(html.unescape(found[2]).strip(), display=display)
    return f'<div class="formula" tabindex="0">{drawn}</div>' if display == "block" else drawn
