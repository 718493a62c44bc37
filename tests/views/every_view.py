"""One workbench of a toy model that shows every further view, with hostile tokens and names where they can stand."""

import numpy as np
from attention_examples import HOSTILE, patterns
from graph_examples import small
from run_examples import over_steps, retrieval, scored

import interp.views as views
from interp.core.circuit import Edge
from interp.views.widgets.view import Workbench

EFFECT = np.array([[0.1, -2.0, 0.3], [1 / 3, 0.5, 1.0]])
"""Effect of each head, which colours the head grid."""
KINDS = ("circuit", "overlap", "patching", "retrieval", "scatter", "training")


def everything(**traits) -> Workbench:
    """The workbench of two layers by three heads, a prompt of hostile tokens, and a tab for each of ``KINDS``."""
    rng = np.random.default_rng(0)
    effect = scored(EFFECT[:, :, None] + rng.normal(0, 0.01, (2, 3, 8)), "effect", signed=True)
    other = small(name="other", edges=tuple(map(Edge.parse, ("embed->L0H1.v", "L0H1->L1H2.q", "L1H2->logits.out"))))
    return views.workbench(
        patterns(size=len(HOSTILE)), tokens=HOSTILE, scores=[effect, scored(rng.random((2, 3, 8)), "sink")],
        source="toy · <b>by hand</b>", patching=rng.normal(size=(2, 3, 6)), circuit=small(),
        overlap={"copying": small(), "other": other}, scatter=True, retrieval=retrieval(), training=over_steps(), **traits)
