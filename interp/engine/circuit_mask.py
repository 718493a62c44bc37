"""A circuit as a mask: the list of interventions that ablates or resamples everything outside of it.

One entry of a sweep: the metric under it says how much of the behaviour the circuit carries by itself (its faithfulness).

    mask = circuit_mask(circuit, model, Mean("corrupt"), batch)
    sweep(model, batch, [mask, *(circuit_mask(smaller, model, Mean("corrupt"), batch) for smaller in others)])

Source: Wang et al. 2022 (arXiv 2211.00593), section 4, who put the mean over prompts of another distribution in place of
every head outside; Chan et al. 2022 (causal scrubbing) resample.
"""

from collections.abc import Iterable
from typing import Any

import torch

from interp.core.circuit import Circuit, Node
from interp.core.errors import InterpError
from interp.engine.intervention import Intervention, Value
from interp.engine.prompts import Prompts, selected, side, sides
from interp.models.sites import Site


def circuit_mask(circuit: Circuit, model: Any, value: Value, batch: Any = None, *, on: str = "clean",
                 mlps: bool = False) -> tuple[Intervention, ...]:
    """The interventions that put ``value`` in place of the output z of every head outside of ``circuit``.

    Nodes count, not edges. A head named without a position is in the circuit everywhere. One named at positions only
    (``L9H9@end``) is in it there, and ``value`` takes its place at all other tokens.

    Args:
        value: what is put there: ``Mean(...)``, ``Resample("corrupt")``, ``Zero()``.
        batch: needed where the circuit names positions. on: the side that will be run.
        mlps: also put it in place of the output of every MLP that the circuit does not name. Embedding and unembedding
            always stay.

    Raises:
        InterpError: the circuit names heads that the model lacks, or leaves nothing outside; it names positions and there is
            no batch, or the tokens outside of them are neither named spans nor the same in all prompts.
    """
    _check(circuit, model)
    found = []
    for stack in model.stacks:
        for layer in range(stack.n_layers):
            where: dict[tuple[str, ...] | None, list[int]] = {}
            for head in range(stack.n_heads):
                positions = _positions(circuit, Node("head", layer, head, stack.attention))
                if positions != ():
                    where.setdefault(positions, []).append(head)
            for positions, heads in where.items():
                spec = None if positions is None else _elsewhere(model, batch, on, positions, circuit)
                if spec != ():
                    found.append(Intervention("z", layer, tuple(heads), spec, value, stack.attention))
            positions = _positions(circuit, Node("mlp", layer, None, stack.attention)) if mlps else ()
            if positions != () and Site("mlp_out", layer, stack.attention) in model.sites():
                spec = None if positions is None else _elsewhere(model, batch, on, positions, circuit)
                if spec != ():
                    found.append(Intervention("mlp_out", layer, None, spec, value, stack.attention))
    if not found:
        raise InterpError(f"ablate everything outside of {_said(circuit)}", "it holds every head of the model",
                          "take a smaller circuit")
    return tuple(found)


def _positions(circuit: Circuit, node: Node) -> tuple[str, ...] | None:
    """Where the circuit has this component: () everywhere, None nowhere, else the names of its positions."""
    own = [n.position for n in circuit.nodes if (n.kind, n.layer, n.head, n.attention) ==
           (node.kind, node.layer, node.head, node.attention)]
    return None if not own else () if None in own else tuple(sorted(p for p in own if p is not None))


def _elsewhere(model: Any, batch: Any, on: str, names: tuple[str, ...], circuit: Circuit) -> tuple[str | int, ...]:
    """The tokens outside of the named positions, as named spans or as token indices; () if there are none."""
    asked = f"ablate everything outside of {_said(circuit)}"
    if batch is None:
        raise InterpError(asked, f"it names the positions {', '.join(names)}", "give the batch that has them")
    prompts = side(sides(model, batch), on)
    inside = selected(prompts, names)
    outside = prompts.mask & ~inside
    if not bool(outside.any()):
        return ()
    others = _spans(prompts, (name for name in batch.spans if name not in names), outside)
    if others is not None:
        return others
    rank = prompts.mask.cumsum(dim=1) - 1
    wanted, held = set(rank[outside].tolist()), set(rank[inside].tolist())
    if wanted & held:
        raise InterpError(asked, f"the tokens outside of {', '.join(names)} are neither named nor the same in all prompts",
                          "name them as spans of the task, use prompts of one length, or leave the positions out")
    return tuple(sorted(wanted))


def _spans(prompts: Prompts, names: Iterable[str], outside: torch.Tensor) -> tuple[str, ...] | None:
    """Those of the named spans that lie outside, if together they are all that does."""
    chosen, covered = [], torch.zeros_like(outside)
    for name in names:
        tokens = selected(prompts, name)
        if not bool((tokens & ~outside).any()):
            chosen.append(name)
            covered |= tokens
    return tuple(chosen) if bool((covered == outside).all()) else None


def _check(circuit: Circuit, model: Any) -> None:
    for node in circuit.nodes:
        if node.kind not in ("head", "mlp"):
            continue
        stack = next((s for s in model.stacks if s.attention == node.attention), None)
        if stack is None or node.layer >= stack.n_layers or (node.head or 0) >= stack.n_heads:
            true = f"{model.name} has no {node.attention} attention" if stack is None else \
                f"{model.name} has {stack.n_layers} layers of {stack.n_heads} heads"
            raise InterpError(f"find {node} of {_said(circuit)}", true, "take a circuit of this model")


def _said(circuit: Circuit) -> str:
    return f"the circuit {circuit.name}" if circuit.name else "the circuit"
