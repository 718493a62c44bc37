"""The workbench: linked views of a model on some prompts, of saved scores, or of plain arrays.

The views know no model; here is where one is read for them, a prompt at a time and only when it is looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from typing import Any

import numpy as np

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.scores import HeadScores
from interp.views.widgets import circuit as graphs
from interp.views.widgets.head_metric import head_metrics
from interp.views.widgets.live import Live
from interp.views.widgets.pattern_set import Layer, PatternSet, TokenRow, pattern_set
from interp.views.widgets.prompt_pairs import prompt_pairs
from interp.views.widgets.retrieval import NeedleRun, Retrieval
from interp.views.widgets.scatter import correlations
from interp.views.widgets.sources import further
from interp.views.widgets.state import HeadState
from interp.views.widgets.view import AttentionMap, HeadGrid, TokenStrip, Workbench, attached

KEPT = 512 * 2**20
"""Bytes of patterns that are kept of a model."""
PROMPTS = 16
"""Prompts of a batch that can be looked at, if no number is given."""


def workbench(shown: Any = None, batch: Any = None, *, state: HeadState | None = None, **options: Any) -> Workbench:
    """Head grid, attention map and token strip, linked, as the last line of a cell; ``.to_html(path)`` writes a page.

    Args:
        shown: one of

            * a model that ``interp.load`` returned, with ``batch``;
            * ``HeadScores`` or a list of them (the head grid alone);
            * patterns: an array [layer, head, query, key] of numpy or torch, transformers' ``attentions``, or a cache of
              TransformerLens (see ``interp.views.widgets.pattern_set``).
        state: of another view, to be linked with; then no model, batch or option of ``head_state`` is given.
        options: as in ``head_state``; and by the name of a further view (``patching``, ``circuit``, ``overlap``,
            ``scatter``, ``retrieval``, ``training``) what its function of ``interp.views`` takes first, to show it as a tab;
            ``scatter=True`` takes the metrics that there are. With a model and a batch there is a live tab too (see
            ``live_view``); ``live=False`` leaves it out.
    """
    live = options.pop("live", None)
    given = {kind: options.pop(kind) for kind in further() if kind in options}
    payloads = {kind: import_module(f"interp.views.widgets.{kind}").payload(value) for kind, value in given.items()}
    if state is None and shown is None and payloads and not options.get("scores"):
        whole = min(payloads.values(), key=lambda payload: payload.get("least", False))
        state = HeadState(heads=whole["heads"], **options)
    state = state or head_state(shown, batch, **options)
    if "patching" in payloads and batch is not None and not payloads["patching"]["prompts"]:
        payloads["patching"]["prompts"] = prompt_pairs(model=shown, batch=batch)
    if given.get("scatter") is True and not isinstance(options.get("scores"), Mapping):
        own = shown if isinstance(shown, HeadScores) or _all_scores(shown) else None
        payloads["scatter"]["pairs"] = correlations([*_listed(own), *_listed(options.get("scores"))])
    for kind, payload in payloads.items():
        attached(kind, payload, state)
    if "circuit" in given:
        shown_circuit, scores = given["circuit"] if isinstance(given["circuit"], tuple) else (given["circuit"], None)
        state.threshold = float(options.get("threshold", payloads["circuit"]["start"]))
        if hasattr(shown, "stacks") and batch is not None:
            measure_kept(state, shown_circuit, shown, batch, scores=scores)
    _live(state, shown, batch, live)
    return Workbench(state)


def live_view(model: Any, batch: Any, *, state: HeadState | None = None, **options: Any) -> Live:
    """The live view alone: a prompt to edit, and interventions on the selected heads, with their effect on the next token
    and on the batch's metric. Takes what ``workbench`` takes of a model; ``state`` must be of this model and batch."""
    state = state or head_state(model, batch, **options)
    _live(state, model, batch, True)
    return Live(state)


def _live(state: HeadState, model: Any, batch: Any, wanted: bool | None) -> None:
    """Attach the live view; without being asked for only where there is a model and it can be run on such prompts."""
    there = hasattr(model, "stacks") and batch is not None
    if wanted is False or (wanted is None and not there):
        return
    from interp import live

    if not there:
        raise InterpError("show live effects", "there is no model to run, or no batch", "give interp.load(...) and a batch")
    if wanted or not live.possible(model, batch, state.header["attention"]):
        stack = model.stack(state.header["attention"])
        live.attach(state, model, batch, lambda tokens: _reader(model, tokens.__getitem__, stack))


def circuit_graph(shown: Any, state: HeadState | None = None, *, model: Any = None, batch: Any = None, scores: Any = None,
                  curve: int = 0, ablation: str = "resample", metric: Any = None, **options: Any) -> graphs.CircuitGraph:
    """The graph of a circuit, or of a model's scored edges, above a threshold; with a model, how faithful what it keeps is.

    Args:
        shown: a ``Circuit``, its file or the file's content; ``EdgeScores`` or ``NodeScores``.
        state: of another view, to be linked with.
        model, batch: to measure the faithfulness of the edges that are kept, whenever the threshold is moved.
        scores: of a circuit's edges, if it does not tell them: ``EdgeScores``, or numbers by edge.
        curve: how many thresholds are measured at once, for a page that is saved (one run of the batch each; 24 is much).
        ablation, metric: as in ``interp.discovery.judge``.
        options: ``threshold``, ``points``, and traits of the state, as in ``interp.views.widgets.circuit.circuit_graph``.

    Raises:
        InterpError: something else; a model without prompts; a circuit of another model.
    """
    if (model is None) != (batch is None):
        raise InterpError("measure what a circuit does", "a model or a batch is missing", "give both, or neither")
    view = graphs.circuit_graph(shown, state, scores=scores, **options)
    if model is not None:
        measure_kept(view.state, shown, model, batch, scores=scores, curve=curve, ablation=ablation, metric=metric)
    return view


def measure_kept(state: HeadState, shown: Any, model: Any, batch: Any, *, scores: Any = None, curve: int = 0,
                 **how: Any) -> None:
    """Have the state's circuit graph ask a model for the faithfulness of what its threshold keeps (see ``circuit_graph``).

    What was measured is kept in the graph's data, so that a page saved later has it.
    """
    from interp.discovery.kept import kept, thresholds

    if not graphs.scored(shown) and not hasattr(shown, "to_edges"):
        shown = graphs.circuit_of(shown)
        scores = {edge: mean for edge, (mean, *_) in graphs.told_scores(shown, scores).items()}
    measure = kept(model, batch, shown, scores=scores, **how)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        return at([float(question["threshold"])])[0]

    def at(chosen: Sequence[float]) -> list[dict[str, Any]]:
        points, known = [], state.payloads["circuit"]["points"]
        for found in measure(chosen):
            low, high = (float(end) if np.isfinite(end) else None for end in (found.low, found.high))
            how = f"{found.ablation} ablation, {found.metric.replace('_', ' ')}, measured on prompts of {found.task}"
            points.append({"threshold": found.threshold, "edges": found.edges, "faithfulness": found.faithfulness,
                           "low": low, "high": high, "n": found.n, "how": how, "warnings": list(found.warnings)})
        seen = {point["threshold"] for point in known if not point.get("file")}
        known += [point for point in points if point["threshold"] not in seen]
        return points

    if curve:
        sizes = [abs(edge[3]) for edge in state.payloads["circuit"]["edges"] if edge[3] is not None]
        at(list(dict.fromkeys([*thresholds(sizes, curve - 1), 0.0])) if curve > 1 else [0.0])
    state.answer("circuit", answer)


def head_grid(shown: Any = None, batch: Any = None, *, state: HeadState | None = None, **options: Any) -> HeadGrid:
    """The head grid alone; takes what ``workbench`` takes."""
    return HeadGrid(state or head_state(shown, batch, **options))


def attention_map(shown: Any = None, batch: Any = None, *, state: HeadState | None = None, **options: Any) -> AttentionMap:
    """The attention map alone; takes what ``workbench`` takes."""
    return AttentionMap(state or head_state(shown, batch, **options))


def token_strip(shown: Any = None, batch: Any = None, *, state: HeadState | None = None, **options: Any) -> TokenStrip:
    """The token strip alone; takes what ``workbench`` takes."""
    return TokenStrip(state or head_state(shown, batch, **options))


def head_state(shown: Any = None, batch: Any = None, *, scores: Any = None, tokens: Any = None, keys: Any = None,
               visible: Any = None, group: int = 1, special: Sequence[str] = (), source: str = "",
               attention: str | None = None, prompts: int = PROMPTS, **traits: Any) -> HeadState:
    """The state that views share.

    Args:
        shown, batch: as in ``workbench``.
        scores: ``HeadScores``, a list of them, or arrays [layer, head] by name, to colour the heads.
        tokens, keys, visible, group, special, source: of plain patterns (``interp.views.widgets.pattern_set``).
        attention: which stack of a model (None: its first). prompts: how many of the batch's prompts.
        traits: how the views begin: ``theme``, ``sink``, ``scale``, ``grid``, ``metric``, ``query``, ``prompt``.

    Raises:
        InterpError: nothing was given; shapes do not fit; the model's patterns cannot be read.
    """
    if isinstance(shown, HeadScores) or _all_scores(shown):
        scores = [*_listed(shown), *_listed(scores)]
        patterns = None
    elif hasattr(shown, "stacks") and hasattr(shown, "run"):
        if batch is None:
            raise InterpError(f"show the attention of {shown.name}", "there are no prompts", "give a batch as well")
        patterns = model_patterns(shown, batch, attention=attention, prompts=prompts)
    else:
        given = {"keys": keys, "visible": visible, "group": group, "special": special, "source": source}
        if shown is not None and batch is not None:
            raise InterpError("show patterns that are arrays", "a batch was given beside them", "give tokens=, their texts")
        patterns = None if shown is None else pattern_set(shown, tokens, **given)
    return HeadState(patterns, head_metrics(scores), **traits)


def _all_scores(shown: Any) -> bool:
    return isinstance(shown, list | tuple) and bool(shown) and all(isinstance(one, HeadScores) for one in shown)


def _listed(scores: Any) -> list[Any]:
    if isinstance(scores, Mapping):
        raise InterpError("show scores", "scores and arrays by name were given together", "give all as scores=")
    return [] if scores is None else [scores] if isinstance(scores, HeadScores) else list(scores)


def model_patterns(model: Any, batch: Any, *, attention: str | None = None, prompts: int = PROMPTS) -> PatternSet:
    """The patterns of a model on the clean prompts of a batch, read from it when they are first looked at."""
    stack = model.stack(attention)
    if stack.attention not in ("self", "encoder"):
        raise InterpError(f"show the {stack.attention} attention of {model.name}", "its keys are not the prompt's tokens",
                          "choose the self-attention, or give the patterns and their keys as arrays")
    from interp.tasks.tokenise import token_texts

    count = min(prompts, batch.n)
    ids = [tuple(row) for row in batch.clean.rows()[:count]]
    special = set(getattr(model.tokenizer, "all_special_ids", ()))
    rows = tuple(TokenRow(token_texts(model.tokenizer, row), row, tuple(i for i, one in enumerate(row) if one in special))
                 for row in ids)
    start = batch.clean.start.tolist()
    spans = tuple({name: (int(span[i, 0]) - start[i], int(span[i, 1]) - start[i]) for name, span in batch.spans.items()}
                  for i in range(count))
    source = f"{model.name} · {batch.task} · {count} of {batch.n} prompts, clean"
    read = _reader(model, lambda prompt: batch.subset([prompt]).clean, stack)
    return PatternSet((stack.n_heads,) * stack.n_layers, rows, rows, read, stack.group,
                      stack.attention, spans, source, stack.learned_sink)


def _reader(model: Any, tokens: Callable[[int], Any], stack: Any) -> Callable[[int, int], Layer]:
    """(prompt, layer) -> its patterns; as many layers in a pass as fit, the last ``KEPT`` bytes of them kept."""
    kept: dict[tuple[int, int], Layer] = {}

    def read(prompt: int, layer: int) -> Layer:
        if (prompt, layer) not in kept:
            one = tokens(prompt)
            size = stack.n_heads * int(one.ids.shape[1]) ** 2 * 5
            together = max(1, KEPT // (2 * size))
            layers = range(layer, min(stack.n_layers, layer + together))
            for number, found in zip(layers, _layers(model, one, stack.attention, layers), strict=True):
                kept[prompt, number] = found
            while len(kept) > max(1, KEPT // size):
                del kept[next(at for at in kept if at != (prompt, layer))]
        return kept[prompt, layer]

    return read


def _layers(model: Any, tokens: Any, attention: str, layers: Sequence[int]) -> list[Layer]:
    """Weights and visibility of some layers on one prompt, its padding cut off."""
    import torch

    from interp.engine.activations import activations
    from interp.engine.edits import NEVER
    from interp.models.sites import Site

    sites = [Site(what, layer, attention) for layer in layers for what in ("pattern", "scores")]
    read = activations(model, tokens, sites)
    start = int(tokens.start[0])
    real = slice(start, start + int(tokens.lengths[0]))
    found = []
    for layer in layers:
        scores = read[Site("scores", layer, attention)][0, :, real, real]
        weights = read[Site("pattern", layer, attention)][0, :, real, real].float().cpu().numpy()
        seen = (scores > max(torch.finfo(scores.dtype).min / 2, NEVER)).cpu().numpy()
        found.append((weights, np.broadcast_to(seen, weights.shape)))
    return found


def retrieval_data(model: Any, batch: Any, *, scores: HeadScores | None = None, contexts: int | Sequence[int] = 3,
                   heads: int = 12, steps: int = 12, span: str = "needle", needle: str | tuple[str, ...] = "needle",
                   answer: str = "answer", new_tokens: int = 50) -> Retrieval:
    """What ``interp.views.retrieval_view`` shows of a model on needles in long contexts.

    Args:
        batch: of the task ``needle``, or any with spans for a needle and an answer within it.
        scores: retrieval scores on this batch; None: ``retrieval_score`` with ``span``, ``needle`` and ``answer``.
        contexts: which prompts can be looked into; a number: as many, of different cells, answered and not.
        heads: how many heads of the highest scores are looked at. steps: tokens of the answer.
        span: what is to be copied, ``needle`` or ``answer``. needle, answer: names of the batch's spans.
        new_tokens: most tokens of an answer, for the scores.
    """
    from interp.engine.answers import inside, recalls, stop_tokens
    from interp.engine.long_generation import generate_long
    from interp.measures.answer_rows import answer_rows
    from interp.measures.copying import copied
    from interp.measures.retrieval_score import retrieval_score
    from interp.tasks.tokenise import token_texts

    if scores is None:
        scores = retrieval_score(model, batch, span=span, needle=needle, answer=answer, new_tokens=new_tokens)
    chosen = _contexts(scores, contexts) if isinstance(contexts, int) else list(contexts)
    mean = np.nan_to_num(scores.mean(), nan=-1.0)
    looked = [Head(*divmod(int(at), mean.shape[1])) for at in np.argsort(-mean, axis=None, kind="stable")[:heads]]
    part = batch.subset(chosen)
    given = generate_long(model, part, min(steps, new_tokens), attended=True, stop=stop_tokens(model.tokenizer))
    recalled = recalls(model, part, given, answer)
    special = set(getattr(model.tokenizer, "all_special_ids", ()))
    region, shown = inside(part, {"needle": needle, "answer": answer}[span]), inside(part, needle)
    runs = []
    for i, (ids, said) in enumerate(zip(part.clean.rows(), given.rows(), strict=True)):
        real = slice(int(part.clean.start[i]), int(part.clean.start[i]) + len(ids))
        at = np.flatnonzero(shown[i, real])
        rows = answer_rows(model, ids, said)
        attended = given.attended[:, :, i : i + 1, : len(said)].numpy()
        found = copied(attended, np.array([said]), np.array([ids]), region[i : i + 1, real])[:, :, 0]
        runs.append(NeedleRun(
            token_texts(model.tokenizer, ids), (int(at[0]), int(at[-1]) + 1), token_texts(model.tokenizer, said),
            {head: rows[head.layer, head.head] for head in looked},
            {head: found[head.layer, head.head] for head in looked}, float(recalled[i]),
            str(getattr(part.prompts[i], "frame", "")), chosen[i], tuple(k for k, one in enumerate(ids) if one in special)))
    return Retrieval(scores, tuple(runs), f"{model.name} · {batch.task} · {batch.n} prompts")


def _contexts(scores: HeadScores, count: int) -> list[int]:
    """Prompts of different cells, the longest first, those that were answered and those that were not in turn."""
    labels = list(map(str, scores.coords.get("prompt", range(scores.n_prompts))))
    size = [int(label.split()[1].rstrip(",")) if label.startswith("length ") else 0 for label in labels]
    right = scores.baselines["answered"] > 0 if "answered" in scores.baselines else np.ones(scores.n_prompts, bool)
    seen: dict[str, int] = {}
    for i in sorted(range(scores.n_prompts), key=lambda i: -size[i]):
        seen.setdefault(labels[i].rsplit(",", 1)[0] if size[i] else labels[i], i)
    sides = [[i for i in seen.values() if right[i] == wanted] for wanted in (True, False)]
    turns = [one for pair in zip_longest(*sides) for one in pair if one is not None]
    return turns[:count]
