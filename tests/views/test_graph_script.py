"""The pure functions of the graphs' script, in node."""

from pathlib import Path


def test_the_graphs_of_the_scripts(in_node):
    in_node(Path(__file__).with_name("graph_checks.mjs").read_text(encoding="utf-8"))
