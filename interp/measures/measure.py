"""The ``@measure`` decorator: a function (model, batch, options) -> values becomes a registered, documented measure."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.provenance import FORMAT, Provenance, collect_code, collect_versions
from interp.core.registry import Registry, unknown
from interp.core.scores import HeadScores
from interp.engine.running import Running
from interp.measures.catalog import ABOUT, RUNNING, Entry, Option, catalog
from interp.measures.options import check_value, record, show_annotation

MEASURES: Registry[Callable[..., HeadScores]] = Registry("measure")
"""The measures whose files were imported; ``find`` imports one by name."""

NO_PROMPTS: Mapping[str, Any] = MappingProxyType(
    {"name": "weights", "version": None, "seed": None, "n": 0, "options": {}, "tokens_sha256": None}
)
"""What the provenance of a measure of weights alone says of its prompts."""


@dataclass(frozen=True)
class Measured:
    """What the function under ``@measure`` returns.

    * ``values``: [layer, head, prompt] or [layer, head, prompt, *extra]; NaN where a head or position does not exist. The
      prompt axis of a measure of weights has length one.
    * ``axes``: names of the extra axes with the coordinates along them, in order, e.g. ``{"position": ("S2", "end")}``.
    * ``coords``: labels for the prompt axis, ``{"prompt": ...}``, where they say more than an index.
    * ``baselines``: metric per prompt of the unpatched runs, e.g. ``{"clean": ..., "corrupt": ...}``.
    * ``normalizer``: per prompt, what a value of 1 would mean after ``HeadScores.normalized()``; None where there is no
      such.
    * ``attention``, ``unit``, ``group``: whose heads; ``head`` or ``kv_head``; query heads per key-value head.
    * ``signed``: whether zero is what a head without the property has on average (see ``HeadScores``); None: so for
      measures about effects, not so for the others.
    * ``outcome``: what a computation that was not done in full says of itself (``Provenance.outcome``).
    * ``metric``: name of what was measured, where it is not the batch's metric; without it a measure about attention or
      output records its own name. ``notes``: facts for the provenance that no option holds, e.g. that logits before a soft
      cap were used.
    """

    values: np.ndarray
    attention: str
    axes: Mapping[str, tuple] = field(default_factory=dict)
    coords: Mapping[str, tuple] = field(default_factory=dict)
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    normalizer: np.ndarray | None = None
    unit: str = "head"
    group: int = 1
    signed: bool | None = None
    metric: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)


def measure(
    *,
    sense: str,
    source: str,
    does_not_show: str,
    formula: str = "",
    cost: str = "",
    about: str = "effect",
    name: str | None = None,
) -> Callable[[Callable[..., Measured]], Callable[..., HeadScores]]:
    """Make ``function(model, batch, *, options) -> Measured`` a measure that returns ``HeadScores``.

    The signature is the interface: every option is keyword-only, annotated and has a default where it can have one. The
    decorator registers the measure under ``name`` (default: the function's), refuses an unknown option or a value of the
    wrong kind by name, and writes all options, defaults included, into the provenance.

    Every measure can be called with ``running=Running(...)`` (``interp.engine.running``): memory, store and workers in one
    value. A measure that sweeps declares the option and hands it on whole (see ``ablation``); for every other one the
    decorator takes batch size and progress from it, as far as the measure has these options.

    Args:
        sense: what a larger value means. formula: the value of one head on one prompt. source: who published it.
        does_not_show: what must not be concluded from it. cost: passes through the model.
        about: ``effect`` (of the head on the metric), ``attention`` (where it looks), ``output`` (what it writes) or
            ``weights``. Attention and output need no metric and take ``interp.tasks.Texts`` as well as a ``Batch``, of which
            they use the clean side. Weights need no prompts: the measure is called with the model alone, a batch given is
            left aside, the prompt axis has length one (label ``none``), so that there is no interval, and the provenance
            says that no prompts were used.

    Texts are written as plain string literals, so that they can be listed without importing the file.
    """

    def register(function: Callable[..., Measured]) -> Callable[..., HeadScores]:
        signature = inspect.signature(function)
        if about not in ABOUT:
            raise TypeError(f"a measure is about one of {', '.join(ABOUT)}, not {about!r}")
        parameters = list(signature.parameters.values())
        options = {p.name: p for p in parameters[2:]}
        if [p.name for p in parameters[:2]] != ["model", "batch"] or any(
            p.kind is not p.KEYWORD_ONLY for p in options.values()
        ):
            raise TypeError(
                f"a measure is written as f(model, batch, *, options), which {function.__name__}{signature} is not"
            )
        called = name or function.__name__

        @functools.wraps(function)
        def measured(model: Any, batch: Any = None, **given: Any) -> HeadScores:
            if batch is None and about != "weights":
                raise InterpError(f"measure {called}", "it needs prompts", "give a batch of a task, or texts")
            if "running" not in options:
                given = _without_running(called, cost, given, options)
            for option, value in given.items():
                if option not in options:
                    raise unknown(f"option of {called}", option, list(options))
                check_value(f"{called}({option}={record(value)!r})", value, options[option].annotation)
            for option, parameter in options.items():
                if parameter.default is parameter.empty and option not in given:
                    raise InterpError(f"measure {called}", f"it needs the option {option!r}", f"give {option}=...")
            asked = {option: p.default for option, p in options.items() if p.default is not p.empty} | given
            made = function(model, None if about == "weights" else batch, **asked)
            return _scores(called, about, asked, made, model, batch)

        measured.entry = Entry(  # what a listing shows; catalog() reads the same from the source
            name=called,
            summary=(inspect.getdoc(function) or "").split("\n", 1)[0],
            sense=sense,
            source=source,
            formula=formula,
            does_not_show=does_not_show,
            cost=cost,
            about=about,
            module=function.__module__,
            options=tuple(
                Option(p.name, show_annotation(p.annotation), None if p.default is p.empty else repr(p.default))
                for p in options.values()
            ),
        )
        return MEASURES.add(called, measured)

    return register


def _without_running(called: str, cost: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What was given to a measure that does not sweep: of ``running``, the batch size and the progress."""
    rest = {option: value for option, value in given.items() if option != "running"}
    running = given.get("running")
    if running is None:
        return rest
    check_value(f"{called}(running={running!r})", running, Running)
    if running.dry_run:
        raise InterpError(f"say what the sweep of {called} costs", f"it does not sweep; it takes {cost}", "run it")
    known = {name: getattr(running, name) for name in ("batch_size", "progress") if name in options}
    return {name: value for name, value in known.items() if value is not None} | rest


def find(name: str) -> Callable[..., HeadScores]:
    """The measure of that name, its file imported if need be; an unknown name is refused with the nearest ones."""
    if name not in MEASURES:
        entries = catalog()
        if name not in entries:
            raise unknown("measure", name, sorted({*entries, *MEASURES}))
        import_module(entries[name].module)
    return MEASURES[name]


def _scores(called: str, about: str, asked: Mapping[str, Any], made: Measured, model: Any, batch: Any) -> HeadScores:
    values = np.asarray(made.values, dtype=np.float64)
    prompts = 1 if about == "weights" else batch.n
    if values.ndim != 3 + len(made.axes) or values.shape[2] != prompts:
        raise ValueError(
            f"{called} returned values of shape {values.shape} for {prompts} prompts and the extra axes {list(made.axes)}"
        )
    coords = {**made.axes, **({"prompt": ("none",)} if about == "weights" else {}), **made.coords}
    recorded = {option: record(value) for option, value in asked.items() if option not in RUNNING}
    baselines = {which: np.asarray(value, dtype=np.float64) for which, value in made.baselines.items()}
    provenance = Provenance(
        measure=called,
        options=recorded | {"attention": made.attention} | dict(made.notes),
        model=model.provenance_dict(),
        task=dict(NO_PROMPTS) if about == "weights" else batch.provenance_dict(),
        metric=made.metric or (batch.metric.name if about == "effect" else called),
        direction=asked.get("direction"),
        baselines={which: float(value.mean()) for which, value in baselines.items()},
        versions=collect_versions(),
        device=str(model.device),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        code=collect_code(),
        format=FORMAT,
        outcome=made.outcome,
    )
    return HeadScores(
        values=values,
        provenance=provenance,
        attention=made.attention,
        unit=made.unit,
        group=made.group,
        dims=("layer", "head", "prompt", *made.axes),
        coords=coords,
        baselines=baselines,
        normalizer=None if made.normalizer is None else np.asarray(made.normalizer, dtype=np.float64),
        signed=about == "effect" if made.signed is None else made.signed,
    )
