"""Tasks: behaviours with their prompts, positions, answers and metric. A file here that defines ``TASK`` is a task.

    interp.tasks.names()                                       # what there is
    batch = interp.tasks.ioi.batch(model, n=64, seed=0)        # prompts of a behaviour, as tokens of a model
    batch = interp.tasks.from_tokens(clean, corrupt, answer, wrong, positions={"S2": 9})
    batch = interp.tasks.from_file("pairs.csv").batch(model)
    texts = interp.tasks.from_texts(model, ["some text"])      # no counterfactual: for measures of attention and output

Listing tasks loads no torch.
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from interp.core.registry import unknown

if TYPE_CHECKING:
    from interp.tasks.task import Task

_MACHINERY = frozenset({"answers", "batch", "build", "haystack", "metrics", "options", "own", "passages",
                        "prompt", "prompt_file", "task", "texts", "tokenise", "typed", "words"})
_NAMES = {
    "Batch": "batch", "Tokens": "batch", "Metric": "metrics", "METRICS": "metrics", "Prompt": "prompt",
    "PromptPair": "prompt", "Task": "task", "Texts": "texts", "from_file": "prompt_file", "from_inputs": "texts",
    "from_texts": "texts", "from_tokens": "own", "plain_texts": "texts", "random_texts": "texts",
}


def names() -> list[str]:
    """The names of all tasks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _MACHINERY)


def get(name: str) -> "Task":
    """A task by name; an unknown name is answered with the nearest ones."""
    if name not in names():
        raise unknown("task", name, names())
    task: Task = import_module(f"{__name__}.{name}").TASK
    return task


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    if not name.startswith("_") and (name in _MACHINERY or name in names()):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *names()})
