"""Rows as a rich table, and in words for the page."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from benchmarks.harness.result import Row


def amount(value: float | None, unit: str) -> str:
    """``1.23 s``, ``45 ms``, ``3.2 h``, ``512 MiB``; a dash for nothing."""
    if value is None:
        return "–"
    if unit != "s":
        return f"{value:,.0f} {unit}"
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.1f} {name}"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def ratio(value: float | None) -> str:
    """``7.3``, ``0.74``, ``1,234``; a dash for nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bar(row: Row) -> str:
    """``≥ 6``, ``≤ 1``; empty without one."""
    return "" if row.bar is None else f"{'≥' if row.sense == 'at least' else '≤'} {row.bar:g}"


def verdict(row: Row) -> str:
    """``met``, ``short`` or ``not measured``; empty without a bar."""
    if row.bar is None:
        return ""
    return "not measured" if row.ratio is None else "met" if row.met else "short"


COLOUR = {"met": "green", "short": "bold red", "not measured": "bold red", "": ""}


def table(title: str, rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", pad_edge=False)
    for column in ("what", "ours", "peer", "", "ratio", "bar", "", "note"):
        right = column in ("ours", "ratio", "bar")
        made.add_column(column, justify="right" if right else "left", no_wrap=right, ratio=None)
    for row in rows:
        made.add_row(row.what, amount(row.ours, row.unit), row.rival, amount(row.peer, row.unit), ratio(row.ratio), bar(row),
                     Text(verdict(row), COLOUR[verdict(row)]), row.note)
    return made
