"""The scripts of the widgets as one text each: the modules of ``js/`` joined, without a bundler.

In the files they are ordinary ES modules, importable as they are; joined, ``import`` lines are dropped and ``export`` is
taken off, so that the same text is an anywidget's ``_esm`` and a page's script. Comments on lines of their own and indents
are left out. The files of ``js/`` share their top-level names; those of ``js/views/``, one for each further view, are
enclosed in a function each and give out their panel alone: ``js/views/NAME.js`` exports ``NAMEPanel`` and ``NAMETitle``.
A file of ``js/`` that some of them import is joined once, before them.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "js"
OWN = ("grid", "map", "strip")
"""Views whose scripts the workbench always holds."""
SHARED = ("core", "base", "export")


def further() -> tuple[str, ...]:
    """Kinds of the views in ``js/views/``, found by existing."""
    return tuple(sorted(path.stem for path in (FOLDER / "views").glob("*.js")))


def module(name: str) -> str:
    """One file of ``js/`` as it is."""
    place = FOLDER / f"{name}.js"
    return (place if place.exists() else FOLDER / "views" / f"{name}.js").read_text(encoding="utf-8")


def joined(name: str) -> str:
    """One file without ``import``, ``export``, whole-line comments and indentation."""
    return "".join(declarations(name))


def declarations(name: str) -> list[str]:
    """The same in pieces, a declaration of the file's top level each."""
    text = re.sub(r"^import\b.*?;\n", "", module(name), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^export (?=const|function|async|class|let)", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[ ]*(//.*|/\*\*.*?\*/)\n", "", text, flags=re.MULTILINE)
    pieces = re.split(r"^(?=(?:async function|function|class|const|let) )", text, flags=re.MULTILINE)
    return [re.sub(r"^[ ]+|\n(?=\n)", "", piece, flags=re.MULTILINE) for piece in pieces]


def used(names: Iterable[str], by: str) -> str:
    """Of shared files the declarations that ``by`` names, and those that these name in turn."""
    pieces = [piece for name in names for piece in declarations(name) if piece.strip()]
    called = [match[1] if (match := re.match(r"(?:async )?\w+ (\w+)", piece)) else "" for piece in pieces]
    kept: set[int] = set()
    new = re.findall(r"\w+", by)
    while new:
        fresh = {i for i, name in enumerate(called) if name in set(new)} - kept
        kept |= fresh
        new = [word for i in fresh for word in re.findall(r"\w+", pieces[i])]
    return "".join(pieces[i] for i in sorted(kept))


def imported(kinds: Iterable[str]) -> tuple[str, ...]:
    """Files of ``js/`` that further views import beyond those that every view has: each once, after what it imports."""
    found: dict[str, None] = {}
    for kind in kinds:
        names = re.findall(r'^import\b[^;]*?from "[./]+/(\w+)\.js";', module(kind), flags=re.MULTILINE)
        own = [name for name in names if name not in SHARED]
        found |= dict.fromkeys([*imported(own), *own])
    return tuple(found)


def enclosed(name: str) -> str:
    """A file of ``js/views/`` in a function of its own, from which its panel and title come out."""
    out = f"{name}Panel, {name}Title"
    return f"const {{ {out} }} = (() => {{\n{joined(name)}return {{ {out} }};\n}})();\n"


@cache
def script(view: str) -> str:
    """The script of a view, with the widget as the default export; the workbench's has every view."""
    return workbench_script(further()) if view == "workbench" else _script(view)


def workbench_script(kinds: Iterable[str]) -> str:
    """The workbench's script with the further views that are named."""
    kinds = tuple(kind for kind in further() if kind in set(kinds))
    tabs = "".join(f"{kind}: [{kind}Title, {kind}Panel], " for kind in kinds)
    own = "".join([*map(joined, OWN), *map(enclosed, kinds), joined("workbench")])
    own += f"export default view(workbenchPanels({{ {tabs}}}));\n"
    return used([*SHARED, *(name for name in imported(kinds) if name not in OWN)], own + joined("page")) + own


def _script(view: str) -> str:
    own = (joined(view) if view in OWN else enclosed(view)) + f"export default view({view}Panel);\n"
    return used([*SHARED, *imported([view])], own + joined("page")) + own


@cache
def style(by: str | None = None) -> str:
    """The style of all views; or of the script ``by`` alone: a further view's sheet only where a class of it is named."""
    base, *sheets = (path.read_text(encoding="utf-8") for path in
                     (FOLDER / "widgets.css", *sorted((FOLDER / "views").glob("*.css"))))
    known = classes(base)
    named = None if by is None else set(re.findall(r"(?<![\w-])iw-[\w-]+", by))

    def wanted(sheet: str) -> bool:
        return named is None or any(name in named for name in classes(sheet) - known)

    return "".join([base, *filter(wanted, sheets)])


def classes(sheet: str) -> set[str]:
    """Names of the classes that a style sheet is about."""
    return set(re.findall(r"\.(iw-[\w-]+)", sheet))
