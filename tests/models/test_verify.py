"""The checks at load catch what they are for: backends that lie, each in one way."""

import dataclasses

import pytest
import torch

from interp.core.errors import InterpError
from interp.models.backend import Run
from interp.models.inputs import sample_inputs
from interp.models.sites import WHATS, Site
from interp.models.tiny import tiny
from interp.models.transformers_backend import TransformersBackend
from interp.models.verify import logits_of, verify


class Liar:
    """A backend with one fault."""

    name, architecture = "liar", "Liar"

    def __init__(self, inner, fault):
        self.inner, self.fault, self.stacks = inner, fault, inner.stacks

    def sites(self):
        return self.inner.sites()

    def W_O(self, layer, attention="self"):
        return self.inner.W_O(layer, attention) * (1.5 if self.fault == "W_O" else 1)

    def b_O(self, layer, attention="self"):
        return self.inner.b_O(layer, attention)

    def run(self, inputs, edits=None, capture=(), **options):
        edits = dict(edits or {})
        deaf = {site: edits.pop(site) for site in list(edits) if self.fault == ("deaf", site.what)}
        if self.fault == "leak":
            edits = {site: lambda x, e=edit: x + (e(x) - x).mean(0, keepdim=True) for site, edit in edits.items()}
        run = self.inner.run(inputs, edits, capture, **options)
        captured = dict(run.captured)
        for site, edit in deaf.items():                 # what it shows is edited, what the network goes on with is not
            if site in captured:
                captured[site] = edit(captured[site])
        for site in captured:
            if self.fault == ("scaled", site.what):
                captured[site] = captured[site] * 1.1
        logits = run.logits + 0.1 if self.fault == "logits" else run.logits
        if self.fault == "self" and edits:
            logits = logits * 1.01
        if self.fault == "padding" and not inputs["attention_mask"].all() and not inputs["attention_mask"][0, 0]:
            logits = logits.roll(1, -1)
        return Run(logits, captured, run.output, run.cache)


def checked(fault, name="gpt2"):
    network = tiny(name)
    return verify(Liar(TransformersBackend(network), fault), sample_inputs(network), lambda given: network(**given).logits)


def test_an_honest_backend_passes():
    report = checked(None)
    assert not report.refused
    assert not report.silent
    assert not report.inexact_padding
    assert max(report.errors.values()) < 1e-5


@pytest.mark.parametrize(("fault", "sentence"), [("logits", r"\(logits\)"), ("self", "self-patching"),
                                                 ("leak", "unedited prompt")])
def test_faults_of_the_whole_are_refused(fault, sentence):
    with pytest.raises(InterpError, match=sentence):
        checked(fault)


def test_wrong_weights_are_noticed():
    refused = checked("W_O").refused
    assert {site.what for site in refused} == {"z", "result"}
    assert {site.layer for site in refused} == {0, 1, 2}


@pytest.mark.parametrize("what", sorted(WHATS))
def test_an_edit_that_does_not_act_is_noticed(what):
    assert what in {site.what for site in checked(("deaf", what)).refused}


@pytest.mark.parametrize("what", ["pattern", "scores", "z", "result"])
def test_wrong_captures_are_noticed(what):
    assert what in {site.what for site in checked(("scaled", what)).refused}


def test_inexact_padding_is_noticed():
    assert checked("padding").inexact_padding == ("left",)


def test_a_head_that_writes_nothing_is_no_fault():
    network = tiny("gpt2")
    with torch.no_grad():
        network.transformer.h[2].attn.c_proj.weight.zero_()
    report = verify(TransformersBackend(network), sample_inputs(network), lambda given: network(**given).logits)
    assert not report.refused
    assert Site("z", 2) in report.silent


def test_learned_sinks_are_accounted_for():
    network = tiny("gpt_oss")
    backend = TransformersBackend(network)
    given = sample_inputs(network)
    assert not verify(backend, given, lambda g: network(**g).logits).refused
    backend.stacks = tuple(dataclasses.replace(stack, learned_sink=False) for stack in backend.stacks)
    assert {site.what for site in verify(backend, given, lambda g: network(**g).logits).refused} == {"pattern", "scores"}


def test_logits_of_a_network_without_them():
    assert logits_of(Run(None, {}, torch.ones(2))).sum() == 2
