"""Sweeps on encoders, image encoders and encoder-decoders: which are resumed, which take whole passes and say why."""

import numpy as np
import pytest
from input_pairs import pairs

from interp.engine.idle import idle
from interp.engine.intervention import Intervention, Resample
from interp.engine.passes import open_passes
from interp.models.load import load
from interp.models.tiny import tiny

WHY = "an encoder-decoder's two stacks are run as a whole"


def values_of(passes):
    values = np.full((len(passes.lists), passes.batch.n), np.nan)
    for unit in passes.units:
        values[np.ix_(unit.lists, unit.rows)] = passes.run(unit)[0][0]
    return values


@pytest.mark.parametrize("architecture", ["bert", "vit", "t5", "bart"])
def test_what_reads_all_positions_or_cannot_be_resumed(architecture):
    """Encoders resume at a layer; encoder-decoders take whole passes, and say why."""
    model, batch = load(tiny(architecture), verify=False), pairs(architecture)
    stack = model.stacks[0]
    lists = [[Intervention(what, layer, head, None, Resample("corrupt"), stack.attention)]
             for what in ("z", "q", "v", "pattern") for layer in range(stack.n_layers) for head in (0, 3)]
    passes = open_passes(model, batch, lists)
    assert (passes.how, passes.why) == (("full", WHY) if architecture in ("t5", "bart") else ("resumed", ""))
    values, one_by_one = values_of(passes), values_of(open_passes(model, batch, lists, batch_size=1, resume=False))
    np.testing.assert_allclose(values, one_by_one, rtol=1e-4, atol=1e-4)
    assert values.std(axis=0).max() > 1e-3
    assert (idle(model, batch, lists) is None) == (passes.how == "full")
