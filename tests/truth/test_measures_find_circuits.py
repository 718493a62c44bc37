"""Known answers: on hand-made circuits the measures give the stated effects and rank the true heads above all others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from by_hand import removal_effects
from hand_made_batches import batch_of, built, loaded

from interp.core.compare import auroc, average_precision, precision_at_k
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.engine.baselines import baselines
from interp.engine.forward import run
from interp.measures import ablation, activation_patching
from interp.measures.logit_decomposition import logit_decomposition
from interp.models.handmade import HANDMADE
from interp.models.sites import Site
from interp.tasks import from_tokens

TRUTHS = [(name, corruption, kind) for name in HANDMADE for corruption, kind in HANDMADE[name]().truths]
CASES = sorted({(name, corruption) for name, corruption, _ in TRUTHS})
MEASURES = {
    "noising": lambda model, batch: [activation_patching(model, batch, direction="noising"),
                                     ablation(model, batch, kind="resample", resample_from="corrupt")],
    "denoising": lambda model, batch: [activation_patching(model, batch, direction="denoising")],
    "zero": lambda model, batch: [ablation(model, batch, kind="zero")],
    "mean": lambda model, batch: [ablation(model, batch, kind="mean", mean_over="position")],
}
AGAINST = ("handmade-cancel", "handmade-conflict", "handmade-recall", "handmade-xor")
"""Models with heads that work against the answer: there the size of the effect counts."""


@pytest.mark.parametrize(("name", "corruption", "kind"), TRUTHS)
def test_removing_a_head_has_its_known_effect_and_the_true_heads_come_first(name, corruption, kind):
    """Every number equals the slow path's; the true heads are told from all others without an error."""
    made = built(name)
    true = made.truths[corruption, kind]
    expected = removal_effects(made, made.pairs(24, corruption=corruption), kind)
    for scores in MEASURES[kind](loaded(made), batch_of(made, 24, corruption=corruption)):
        for head, effect in expected.items():
            np.testing.assert_allclose(scores.values[head.layer, head.head], effect, atol=1e-4, err_msg=str(head))
            if head not in true:
                assert np.abs(scores.values[head.layer, head.head]).max() <= made.negligible
        if name in AGAINST:
            scores = replace(scores, values=np.abs(scores.values))
        if true:
            assert auroc(scores, true) == average_precision(scores, true) == precision_at_k(scores, true) == 1.0


@pytest.mark.parametrize(("name", "corruption"), CASES)
@pytest.mark.parametrize("on", ["clean", "corrupt"])
def test_direct_contributions_and_the_rest_sum_to_the_logit_difference(name, corruption, on):
    made = built(name)
    model, batch = loaded(made), batch_of(made, corruption=corruption)
    split = logit_decomposition(model, batch, on=on)
    whole = getattr(baselines(model, batch), on)
    np.testing.assert_allclose(sum(split.parts().values()), whole, atol=1e-4)
    np.testing.assert_allclose(split.total, whole, atol=1e-4)


COMPONENTS = [      # (model, corruption, component) -> the heads whose q, k, v or pattern carries the difference by itself
    ("handmade-induction", "keys", {"q": (), "k": ("induction",), "v": ("previous token",), "pattern": ("induction",)}),
    ("handmade-induction", "values", {"q": (), "k": (), "v": ("induction",), "pattern": ()}),
    ("handmade-retrieval", "keys", {"q": ("copy",), "k": ("match",), "v": (), "pattern": ("match", "copy")}),
    ("handmade-retrieval", "values", {"q": (), "k": (), "v": ("copy",), "pattern": ()}),
    ("handmade-ioi", "third", {"q": ("duplicate token", "name mover"), "k": ("S-inhibition", "name mover"),
                               "v": ("S-inhibition",),
                               "pattern": ("duplicate token", "S-inhibition", "name mover")}),
    ("handmade-sink", "active", {"q": (), "k": (), "v": ("first-token sink",), "pattern": ()}),
    ("handmade-sink", "dormant", {"q": (), "k": (), "v": ("previous token",), "pattern": ()}),
]


def same_everywhere(name: str, corruption: str, component: str) -> bool:
    """Whether every head has the same q, k, v or pattern in the clean and in the corrupted prompts."""
    made = built(name)
    model, batch = loaded(made), batch_of(made, 12, corruption=corruption)
    sites = [Site(component, layer) for layer in range(model.n_layers)]
    clean, corrupt = (run(model, batch, capture=sites, on=on).captured for on in ("clean", "corrupt"))
    return all(torch.allclose(clean[site], corrupt[site], atol=1e-5) for site in sites)


@pytest.mark.parametrize(("name", "corruption", "truth"), COMPONENTS)
def test_queries_keys_values_and_patterns_say_how_a_head_is_reached(name, corruption, truth):
    made = built(name)
    model, batch = loaded(made), batch_of(made, 12, corruption=corruption)
    for component, roles in truth.items():
        true = {made.heads[role] for role in roles}
        if same_everywhere(name, corruption, component):
            with pytest.raises(InterpError, match="none of them changes anything"):
                activation_patching(model, batch, component=component)
            continue
        values = activation_patching(model, batch, component=component).values
        for layer in range(model.n_layers):
            for head in range(model.n_heads):
                effect = np.abs(values[layer, head]).mean()
                if Head(layer, head) in true:
                    assert effect > 4.9, (component, layer, head)
                else:
                    assert effect <= made.negligible, (component, layer, head)


POSITIONS = [
    ("handmade-induction", "keys", {"previous token": "value", "induction": "end"}),
    ("handmade-ioi", "third", {"duplicate token": "S2", "S-inhibition": "end", "name mover": "end"}),
    ("handmade-retrieval", "keys", {"match": "end", "copy": "end"}),
    ("handmade-sink", "active", {"first-token sink": "end"}),
    ("handmade-or", "zeros", {"a": "end", "b": "end"}),
]


@pytest.mark.parametrize(("name", "corruption", "truth"), POSITIONS)
def test_each_head_acts_where_the_circuit_says(name, corruption, truth):
    made = built(name)
    model, batch = loaded(made), batch_of(made, 12, corruption=corruption)
    direction = "denoising" if name == "handmade-or" else "noising"
    spans = tuple(batch.spans)
    scores = activation_patching(model, batch, direction=direction, positions=spans)
    whole = activation_patching(model, batch, direction=direction)
    for role, place in truth.items():
        head = made.heads[role]
        for i, span in enumerate(spans):
            here = scores.values[head.layer, head.head, :, i]
            if span == place:
                assert np.abs(here).mean() > 0.4 * np.abs(whole.values[head.layer, head.head]).mean() > 0.3
            elif (role, span) != ("previous token", "key"):
                assert np.abs(here).max() < 1e-4, (role, span)


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_of_unequal_length_score_as_each_does_alone(side):
    """An induction prompt may lose its first letters, up to the first of its two keys."""
    made = built("handmade-induction")
    pairs = []
    for pair in made.pairs(12, seed=5):
        drop = min(pair.positions["key"], pair.positions["other_key"]) - 1
        pairs.append(replace(pair, clean=(0, *pair.clean[1 + drop :]), corrupt=(0, *pair.corrupt[1 + drop :]),
                             positions={name: at - drop for name, at in pair.positions.items()}))
    assert len({len(pair.clean) for pair in pairs}) > 3
    batch = from_tokens([pair.clean for pair in pairs], [pair.corrupt for pair in pairs], [pair.answer for pair in pairs],
                        [pair.wrong for pair in pairs], padding_side=side, model=loaded(made),
                        positions={"value": [pair.positions["value"] for pair in pairs]})
    whole = activation_patching(loaded(made), batch)
    at_value = activation_patching(loaded(made), batch, positions="value")
    for i, pair in enumerate(pairs):
        for head, effect in removal_effects(made, [pair], "noising").items():
            np.testing.assert_allclose(whole.values[head.layer, head.head, i], effect[0], atol=1e-4)
    previous, last = made.heads["previous token"], made.heads["induction"]
    np.testing.assert_allclose(whole.values[previous.layer, previous.head], 20, atol=1e-3)       # the other value is copied
    np.testing.assert_allclose(at_value.values[previous.layer, previous.head], 10, atol=1e-3)    # nothing matches the key
    assert np.abs(at_value.values[last.layer, last.head]).max() < 1e-4
    assert auroc(whole, made.true_heads) == 1.0
