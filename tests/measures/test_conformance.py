"""What every measure must do, from the catalog: a new measure gets these tests by existing, for every choice it offers."""

import inspect
import itertools
from functools import cache
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from random_batches import FEW, random_batch, shallow
from slow_path import attention, head_view, shape, slot

from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.scores import HeadScores
from interp.measures.catalog import catalog
from interp.measures.measure import RUNNING, find
from interp.models.load import load

CERTIFIED = ("precision", "rank")
"""Options of certified results: inexact on purpose, or without effect alone; their tests are their own."""


def variants():
    """Each measure by default, and with each other choice of each option that has choices (alone)."""
    for name in catalog():
        yield name, {}
        for option, parameter in inspect.signature(find(name)).parameters.items():
            kinds = (
                get_args(parameter.annotation)
                if get_origin(parameter.annotation) not in (Literal, None)
                else (parameter.annotation,)
            )
            choices = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
            choices += [True, False] if bool in kinds else []
            for choice in choices if option not in CERTIFIED else []:
                if choice != parameter.default:
                    yield name, {option: choice}


VARIANTS = list(variants())
every = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{n}-{'-'.join(map(str, o.values()))}" for n, o in VARIANTS]
)


def across(architectures):
    """Each measure by default on all of these networks, each other choice on one of them, in turn."""
    cases = [(name, options, architecture) for turn, (name, options) in enumerate(VARIANTS)
             for architecture in ([architectures[turn % len(architectures)]] if options else architectures)]
    return pytest.mark.parametrize(("name", "options", "architecture"), cases, ids=[
        "-".join([name, *map(str, options.values()), architecture]) for name, options, architecture in cases])


RARE = {"attends_to", "flexprefill", "massive_activation_sinks", "retrieval_frequency", "retrieval_score",
        "secondary_sinks", "sink_free_mass", "sinks_anywhere", "text_dominance"}
"""They look for what a small network of random weights may lack, and refuse choices that its depth rules out; that they find
what is there is shown where it is planted, in their own tests."""
NEEDLE = {"mode": "teacher_forced", "needle": "B", "answer": "A", "new_tokens": 4}
FITTED = {"low_rank": {"ranks": (0, 3)}, "retrieval_frequency": NEEDLE, "retrieval_score": NEEDLE,
          "prefix_matching": {"length": 10, "repeats": 2}, "value_weighted_attention": {"keys": "B"},
          "integrated_gradients": {"steps": 2}, "opposing_heads": {"alphas": (2.0,)},
          "block_sparsity": {"block": 2, "keep": 0.3}, "flexprefill": {"block": 2}, "hip_recall": {"k": 2},
          "attention_share": {"parts": ("A", "B")}, "text_dominance": {"other": "B"}, "relative_attention": {"span": "B"}}
"""Options by which a measure finds what it needs in the prompts of these tests."""


ORDER, AS_MADE = [2, 0, 3, 1], [0, 1, 2, 3]
OWN_PROMPTS = {"prefix_matching"}
"""They make as many prompts of their own as they are given."""
PARTIAL = {"attends_to", "hop_profile", "relative_attention", "text_dominance"}
"""A prompt that has no such token, or none within a head's reach, has no value (NaN)."""
PAIRS = {"composition"}
"""They score pairs of heads, and a head of the first layer has none before it."""


def absent(scores):
    """Pairs whose sender does not come before the receiver: NaN by definition."""
    if "sender" not in scores.dims:
        return (np.arange(scores.n_layers) == 0)[:, None, None]
    layers = np.array([Head.parse(label).layer for label in scores.labels("sender")])
    return (layers >= np.arange(scores.n_layers)[:, None])[:, None, None, :]


def score(name, model, batch, **options) -> HeadScores:
    try:
        return find(name)(model, batch, **{**FITTED.get(name, {}), **options})
    except InterpError as refusal:
        if name in RARE and options:
            pytest.skip(str(refusal))
        raise


@pytest.fixture(scope="module")
def models():
    return {name: load(shallow(name), verify=False) for name in FEW}


@pytest.fixture(scope="module")
def batch():
    return random_batch(n=4, lengths=(7, 9))


@pytest.fixture(scope="module")
def scored(models, batch):
    """Scores of a measure on one of the networks, computed once: what several tests compare with."""
    found: dict = {}

    def scores_of(name, options, architecture):
        key = name, tuple(options.items()), architecture
        if key not in found:
            found[key] = score(name, models[architecture], batch, **options)
        return found[key]

    return scores_of


@across(FEW)
def test_every_head_gets_a_finite_number_with_its_provenance(name, options, architecture, models, batch, scored):
    model = models[architecture]
    scores = scored(name, options, architecture)
    units = model.n_kv_heads if scores.unit == "kv_head" else model.n_heads
    prompts = 1 if catalog()[name].about == "weights" else batch.n
    assert scores.values.shape[:3] == (model.n_layers, units, prompts)
    missing = absent(scores) if name in PAIRS else np.isnan(scores.values) & (name in PARTIAL)
    assert (np.isfinite(scores.values) | missing).all()
    assert (scores.values != 0).any() or name in RARE
    asked = set(inspect.signature(find(name)).parameters) - {"model", "batch", *RUNNING}
    assert asked <= set(scores.provenance.options)
    for option, value in options.items():
        assert scores.provenance.options[option] == value
    if scores.normalizer is not None:
        assert scores.normalizer.shape == (prompts,)
        assert np.isfinite(scores.normalizer).all()


@every
def test_same_numbers_again_and_from_the_file(name, options, models, scored, tmp_path):
    scores = scored(name, options, "llama")
    again = score(name, models["llama"], random_batch(n=4, lengths=(7, 9)), **options)
    np.testing.assert_array_equal(scores.values, again.values)
    assert scores.provenance.key() == again.provenance.key()
    loaded = HeadScores.load(scores.save(tmp_path / "scores.parquet"))
    np.testing.assert_array_equal(loaded.values, scores.values)
    assert loaded.provenance == scores.provenance
    assert (loaded.unit, loaded.group, loaded.dims, dict(loaded.coords)) == (
        scores.unit,
        scores.group,
        scores.dims,
        dict(scores.coords),
    )


@across(("llama", "gpt_oss"))
def test_batch_size_padding_and_order_change_nothing(name, options, architecture, models, batch, scored):
    model = models[architecture]
    whole = scored(name, options, architecture)
    by_one = {"batch_size": 1} if "batch_size" in inspect.signature(find(name)).parameters else {}
    one = score(name, model, batch, **options, **by_one)
    left = random_batch(n=4, lengths=(7, 9), padding_side="left")
    by_place = name in OWN_PROMPTS or options == {"resample_from": "other prompts"}     # whose partners are drawn by place
    order = AS_MADE if by_place else ORDER
    other = score(name, model, left.subset(order), **options).values
    np.testing.assert_allclose(one.values, whole.values, rtol=1e-4, atol=2e-5)
    expected = whole.values[:, :, order] if whole.n_prompts > 1 else whole.values
    np.testing.assert_allclose(other, expected, rtol=1e-4, atol=2e-5)
    assert one.provenance.key() == whole.provenance.key()


@cache
def silenced(architecture):
    """The network with the query heads of the first key-value head of layer 1 writing nothing, and how many these are."""
    network = shallow(architecture)
    sizes = shape(architecture, network)
    group = sizes.heads // sizes.kv
    module, side, view = slot(architecture, network, 1, "z")
    with torch.no_grad():
        for head in range(group):
            head_view(architecture, view, _features_last(module, side)[None], head).zero_()
    return load(network, verify=False), group


@across(FEW)
def test_a_head_that_writes_nothing_scores_zero(name, options, architecture, batch):
    if catalog()[name].about != "effect":
        pytest.skip(f"{name} is not about effects")
    model, group = silenced(architecture)
    scores = score(name, model, batch, **options)
    count = group if scores.unit == "head" else 1
    assert np.abs(scores.values[1, :count]).max() < 1e-6
    assert np.abs(scores.values[1, count:]).max() > 1e-4


@cache
def permuted(architecture):
    """The network with its heads in another order, that order, and that of the key-value heads."""
    network = shallow(architecture)
    sizes = shape(architecture, network)
    group = sizes.heads // sizes.kv
    order_kv = np.roll(np.arange(sizes.kv), 1)
    order = np.concatenate([kv * group + np.arange(group)[::-1] for kv in order_kv])
    with torch.no_grad():
        for layer, component in itertools.product(range(sizes.layers), "qkvz"):
            _permute(architecture, network, layer, component, order if component in "qz" else order_kv)
        if architecture == "gpt_oss":
            for layer in range(sizes.layers):
                sinks = attention(architecture, network, layer).sinks
                sinks.copy_(sinks[torch.from_numpy(order)])
    return load(network, verify=False), order, order_kv


@across(FEW)
def test_permuting_heads_permutes_scores(name, options, architecture, batch, scored):
    model, order, order_kv = permuted(architecture)
    before, after = scored(name, options, architecture), score(name, model, batch, **options)
    expected = before.values[:, order if before.unit == "head" else order_kv]
    if "sender" in before.dims:
        expected = expected.reshape(*expected.shape[:3], -1, len(order))[..., order].reshape(expected.shape)
    np.testing.assert_allclose(after.values, expected, rtol=1e-3, atol=5e-5)
    level = options.get("over") == "layer"                # all heads of a layer have one value
    assert np.nanmax(np.abs(expected - before.values)) > 1e-3 or name in RARE or level


def _features_last(module, side):
    """A projection's weight with the axis that heads share last; GPT-2's Conv1D is [in, out] in place of [out, in]."""
    return module.weight if (type(module).__name__ == "Conv1D") == (side == "out") else module.weight.T


def _permute(architecture, network, layer, component, order):
    module, side, view = slot(architecture, network, layer, component)
    for tensor in [_features_last(module, side)[None]] + (
        [module.bias[None, None]] if side == "out" and module.bias is not None else []
    ):
        part = view(tensor)
        part.copy_(part[:, :, torch.from_numpy(order)].clone())
