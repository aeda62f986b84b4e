"""Two bar charts beside each other as an SVG, by hand: no library draws four rectangles more simply."""

import math
from html import escape

ROW, BAR, LABEL, PANEL, GAP, TOP = 30, 18, 90, 280, 130, 56
OURS, OTHERS, INK, FAINT = "#1a73e8", "#9aa0a6", "#202124", "#5f6368"


def draw(title: str, panels: dict[str, dict[str, float]]) -> str:
    """`panels` is title -> name -> number; a name without a number has no bar."""
    names = list(dict.fromkeys(name for numbers in panels.values() for name in numbers))
    width = LABEL + len(panels) * (PANEL + GAP)
    height = TOP + ROW * len(names) + 16
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="system-ui, sans-serif" font-size="13">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(12, 20, title, weight="600"),
    ]
    for place, name in enumerate(names):
        weight = "600" if name == "cpr_kit" else "400"
        parts.append(text(LABEL - 8, TOP + ROW * place + BAR - 4, name, anchor="end", weight=weight))
    for column, (label, numbers) in enumerate(panels.items()):
        left = LABEL + column * (PANEL + GAP)
        parts.append(text(left, TOP - 14, label, fill=FAINT))
        most = max((number for number in numbers.values() if not math.isnan(number)), default=1) or 1
        for place, name in enumerate(names):
            parts += bar(left, TOP + ROW * place, numbers.get(name, math.nan), most, fill_of(name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def bar(left: float, top: float, number: float, most: float, fill: str) -> list[str]:
    if math.isnan(number):
        return []
    length = max(1.0, PANEL * number / most)
    written = f"{number:,.0f}" if number >= 10 else f"{number:.1f}"
    return [
        f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2" fill="{fill}"/>',
        text(left + length + 6, top + BAR - 4, written),
    ]


def fill_of(name: str) -> str:
    return OURS if name == "cpr_kit" else OTHERS


def text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "400", fill: str = INK) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}">'
        f"{escape(words)}</text>"
    )
