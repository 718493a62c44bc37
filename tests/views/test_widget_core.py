"""The pure functions of the widgets' scripts, in node."""

from pathlib import Path


def test_the_core_of_the_scripts(in_node):
    in_node(Path(__file__).with_name("widget_core_checks.mjs").read_text(encoding="utf-8"))
