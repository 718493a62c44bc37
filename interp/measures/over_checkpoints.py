"""Any measure over the checkpoints of a training run: one ``Trajectory``, on the same prompts at every step."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from interp.core.errors import InterpError
from interp.core.scores import HeadScores
from interp.core.trajectory import Trajectory, trajectory
from interp.measures.measure import find
from interp.models.builtin import shipped
from interp.models.checkpoints import checkpoints
from interp.models.load import load


def over_checkpoints(name: str, measure: str | Callable[..., HeadScores], batch: Any, *, steps: Sequence[int] | None = None,
                     revisions: Sequence[str] | None = None, device: str | None = None, last: bool = True,
                     **options: Any) -> Trajectory:
    """A measure at each checkpoint of a model's training, on the same prompts.

    Args:
        name: a model that ships with checkpoints (``organism``), or a Hub id whose ``revisions`` are checkpoints (Pythia).
        measure: its name, or the measure itself. options: of the measure.
        batch: the prompts, made once with any of the checkpoints: they share a tokenizer.
        steps: which checkpoints (None: all). revisions: their names, for a Hub id, such as ``step1000``: the number in a
            name is its step.
        device: as for ``interp.load``. last: whether the finished model comes last, one step after its last checkpoint in
            the order (only for shipped models).

    Raises InterpError for a model without checkpoints and for a step that it does not have.
    """
    known = {_step(revision): revision for revision in revisions or _shipped(name)}
    wanted = sorted(known) if steps is None else list(steps)
    if missing := [step for step in wanted if step not in known]:
        raise InterpError(f"measure {name} at step {missing[0]}", "there is no such checkpoint",
                          "choose among " + ", ".join(map(str, sorted(known))))
    models: dict[int, Callable[[], Any]] = {
        step: partial(load, name, revision=known[step], device=device, verify=False) for step in wanted}
    if last and revisions is None and steps is None:
        models[max(known) + 1] = partial(load, name, device=device)
    return over_models(models, measure, batch, **options)


def over_models(models: Mapping[int, Any], measure: str | Callable[..., HeadScores], batch: Any, **options: Any
                ) -> Trajectory:
    """A measure at each of several checkpoints of one training run, on the same prompts.

    Args:
        models: step -> the model there: a loaded one, a function without arguments that loads it (then one is in memory at a
            time), or a name or folder for ``interp.load`` (``checkpoint-500`` of a training run of your own).
        measure, batch, options: as for ``over_checkpoints``.
    """
    function = find(measure) if isinstance(measure, str) else measure
    return trajectory([(step, function(_loaded(models[step]), batch, **options)) for step in sorted(models)])


def _loaded(model: Any) -> Any:
    if isinstance(model, str | Path):
        return load(model, verify=False)
    return model if hasattr(model, "backend") else model()


def _shipped(name: str) -> list[str]:
    folder = shipped().get(name)
    found = list(checkpoints(folder)) if folder else []
    if not found:
        raise InterpError(f"follow the training of {name}", "no checkpoints of it are known",
                          "name its checkpoints: revisions=['step1000', ...], or use the organism")
    return found


def _step(revision: str) -> int:
    numbers = re.findall(r"\d+", revision)
    if not numbers:
        raise InterpError(f"order the checkpoint {revision!r}", "its name has no number", "name checkpoints by their step")
    return int(numbers[-1])
