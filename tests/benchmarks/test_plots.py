"""What is done to a plot after it was drawn; the drawing needs matplotlib, which only `make bench` installs."""

from __future__ import annotations

from xml.dom import minidom

from tests.benchmarks.plots import compact

SVG = """<svg xmlns="http://www.w3.org/2000/svg">
 <metadata>
  <a/>
 </metadata>
 <path d="M 53.984219 211.17
L 457.79 211.1712345
z
"/>
 <text style="font: 9px 'DejaVu Sans', 'Bitstream Vera Sans', sans-serif; fill: red">1 k</text>
</svg>
"""


def test_a_plot_is_compact() -> None:
    """Numbers have two digits, text any font without serifs, and nothing else is lost."""
    drawing = minidom.parseString(compact(SVG)).documentElement
    assert drawing is not None
    (path,), (text,) = (drawing.getElementsByTagName(name) for name in ("path", "text"))
    assert " ".join(path.getAttribute("d").split()) == "M 53.98 211.17 L 457.79 211.17 z"
    assert text.getAttribute("style") == "font: 9px sans-serif; fill: red"
    assert text.firstChild is not None
    assert text.firstChild.nodeValue == "1 k"
    assert drawing.getElementsByTagName("metadata") == []
