"""What measures there are and what they say of themselves, read from the source of this folder without importing torch."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

FACTS = ("sense", "formula", "source", "does_not_show", "cost")
ABOUT = ("effect", "attention", "output", "weights")
RUNNING = ("batch_size", "progress", "running")
"""Options that say how to compute and cannot change a number: they stay out of the provenance."""


@dataclass(frozen=True)
class Option:
    """One option of a measure: name, type and default as written in the signature (``default`` None: required)."""

    name: str
    annotation: str
    default: str | None


@dataclass(frozen=True)
class Entry:
    """What a measure says of itself.

    * ``name``, ``summary``: the name it is asked for by, and the first line of its docstring;
    * ``sense``: what a larger value means; ``formula``: the value of one head on one prompt;
    * ``source``: who published it; ``does_not_show``: what must not be concluded from it;
    * ``cost``: passes through the model; ``options``: in the order of the signature;
    * ``about``: ``effect`` (of the head on the metric: a head that writes nothing has none), ``attention`` (where it
      looks), ``output`` (what it writes, whatever comes of it) or ``weights`` (no prompts at all);
    * ``module``: the file that defines it.
    """

    name: str
    summary: str
    sense: str
    source: str
    does_not_show: str
    formula: str = ""
    cost: str = ""
    about: str = "effect"
    options: tuple[Option, ...] = field(default=())
    module: str = ""


def catalog() -> dict[str, Entry]:
    """Every measure of this folder by name, in alphabetical order; the files are read, not imported."""
    entries: dict[str, Entry] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for entry in _entries(path):
            if entry.name in entries:
                raise ValueError(f"two measures are called {entry.name!r}: {entries[entry.name].module} and {entry.module}")
            entries[entry.name] = entry
    return dict(sorted(entries.items()))


def markdown() -> str:
    """The page ``docs/measures.md``: every measure with formula, sign, options, source, cost and what it does not show."""
    lines = [
        "# Measures",
        "",
        "One value per head and prompt. This page is generated: `python -m interp.measures.catalog > docs/measures.md`.",
        "",
        "| measure | what it is | larger means |",
        "|---|---|---|",
    ]
    entries = catalog().values()
    lines += [f"| [`{entry.name}`](#{entry.name}) | {_cell(entry.summary)} | {_cell(entry.sense)} |" for entry in entries]
    for entry in entries:
        lines += [
            "",
            f"## {entry.name}",
            "",
            entry.summary,
            "",
            f"* **Formula**: {entry.formula}",
            f"* **Sign**: {entry.sense}",
            f"* **Cost**: {entry.cost}",
            f"* **Does not show**: {entry.does_not_show}",
            f"* **Source**: {entry.source}",
            "",
            "| option | type | default |",
            "|---|---|---|",
        ]
        for option in entry.options:
            default = "required" if option.default is None else f"`{option.default}`"
            lines.append(f"| `{option.name}` | `{_cell(option.annotation)}` | {default} |")
    return "\n".join(lines) + "\n"


def _entries(path: Path) -> list[Entry]:
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "measure":
                said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in decorator.keywords}
                facts = {fact: said.get(fact, "") for fact in FACTS}
                summary = (ast.get_docstring(node) or "").split("\n", 1)[0]
                module = f"interp.measures.{path.stem}"
                found.append(
                    Entry(
                        name=said.get("name", node.name),
                        summary=summary,
                        about=said.get("about", "effect"),
                        options=_options(node),
                        module=module,
                        **facts,
                    )
                )
    return found


def _options(node: ast.FunctionDef) -> tuple[Option, ...]:
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return tuple(
        Option(
            argument.arg,
            ast.unparse(argument.annotation) if argument.annotation else "Any",
            None if default is None else ast.unparse(default),
        )
        for argument, default in pairs
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
