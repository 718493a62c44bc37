"""Retrieval scores against a second implementation on transformers' own attentions, on a pretrained story model."""

import numpy as np
import pytest
import retrieval_by_transformers
from transformers import AutoModelForCausalLM

import interp
from interp.engine.answers import stop_tokens

STORIES = [
    "Once upon a time, there was a little girl named Lily. She had a big red ball and a small dog named Max. One day, Lily",
    "Tom and his friend Sue went to the park. They saw a blue bird in a tall tree. Tom said to Sue, \"Look at the",
    "There was an old man named Ben who lived in a green house near the lake. Every morning, the old man",
]
STEPS = 16


@pytest.mark.weights
@pytest.mark.parametrize("counting", ["set", "count"])
@pytest.mark.parametrize("name", ["stories260K", "babyllama361"])
def test_scores_of_a_story_model(name, counting, weights):
    model = interp.load(weights / name)
    network = AutoModelForCausalLM.from_pretrained(weights / name, attn_implementation="eager").eval()
    texts = interp.tasks.from_texts(model, STORIES)
    spans = [(2, int(length) - 4) for length in texts.clean.lengths]
    texts = interp.tasks.from_texts(model, STORIES, spans={"needle": spans, "answer": spans})
    found = interp.measures.retrieval_score(model, texts, counting=counting, new_tokens=STEPS)
    stop = stop_tokens(model.tokenizer)
    for i, ids in enumerate(texts.clean.rows()):
        want = retrieval_by_transformers.scores(network, ids, spans[i], STEPS, stop, counting)
        np.testing.assert_allclose(found.values[:, :, i], want, atol=1e-12)
    assert (found.values > 0).sum() > 5
