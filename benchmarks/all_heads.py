"""Activation patching of every head, all positions at once, against TransformerLens and a loop of plain hooks."""

from functools import partial

from benchmarks.harness.result import Benchmark, Findings, against
from benchmarks.harness.shapes import Setting, bridge, model, network, pairs, quicker
from benchmarks.harness.timing import Contender, in_turn
from benchmarks.peers import plain_hooks, transformer_lens
from interp.measures import activation_patching

LENS, HOOKS = 6.0, 4.0


def measure(setting: Setting) -> Findings:
    """Denoising: z of one head from the clean run in the corrupted one, for every head; baselines included."""
    used, theirs, given = model(setting.shape), bridge(setting.shape), pairs(setting)
    plain = network(setting.shape)
    attention = quicker(plain, given.clean)
    ours = Contender("ours", partial(activation_patching, used, given.batch(used), direction="denoising"))
    peers = [transformer_lens.all_positions(theirs, given), plain_hooks.all_heads(plain, given, last_only=False),
             plain_hooks.all_heads(plain, given, last_only=True)]
    times = in_turn([ours, *peers], setting.repeats)
    base = {transformer_lens.VERSION: transformer_lens.baseline(theirs, given)}
    rows = []
    for peer in peers:
        effect = times[peer.name].value - base.get(peer.name, plain_hooks.baseline(plain, given))
        lens = peer.name == transformer_lens.VERSION
        rows.append(against("all heads, all positions", times["ours"], times[peer.name], LENS if lens else HOOKS,
                            times["ours"].value.mean(), effect,
                            "" if lens else f"{attention} attention"))
    return Findings(tuple(rows))


BENCHMARK = Benchmark("All heads, all positions", measure, minutes=6, place=1)
