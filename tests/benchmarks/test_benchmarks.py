"""The benchmark harness on tiny shapes: peers give our numbers, the counted arithmetic is right, nothing is passed over."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as command
from benchmarks import all_heads, by_position, page, retrieval_grid, sink_table
from benchmarks.harness.arithmetic import edges_flops, patched_flops, sweep_flops, untouched_flops
from benchmarks.harness.machine import gflops
from benchmarks.harness.plot import growth_plot
from benchmarks.harness.registry import benchmarks
from benchmarks.harness.result import Benchmark, Findings, Row, against, agreement
from benchmarks.harness.shapes import Setting, Shape, model, network, pairs
from benchmarks.harness.table import amount, table, verdict
from benchmarks.harness.timing import Contender, Timing, in_turn
from benchmarks.peers import edges

TINY = Setting(Shape(2, 4, 32, 60), prompts=2, length=7, threads=1, repeats=1)


def test_contenders_take_turns():
    order = []
    times = in_turn([Contender("a", lambda: order.append("a") or 1), Contender("b", lambda ready: order.append("b") or ready,
                                                                               setup=lambda: 2, times=1e6)], 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert [times["a"].values, times["b"].values] == [(1, 1, 1), (2, 2, 2)]
    assert times["b"].median > times["a"].median
    assert Timing("c", (3.0, 1.0, 2.0), ()).median == 2.0


def test_other_numbers_are_given_no_time():
    ours, peer = (Timing(name, (1.0,), ()) for name in ("ours", "peer"))
    effect = np.array([0.5, -0.2])
    assert against("x", ours, peer, 6.0, effect, effect + 1e-6).ratio == 1.0
    for other in (effect + 1e-3, effect[:1], effect * np.nan):
        row = against("x", ours, peer, 6.0, effect, other)
        assert row.ours is row.peer is row.ratio is None
        assert verdict(row) == "not measured"
    assert not agreement(effect * 1e-5, effect * 1e-5 + 1e-6)[0]      # all alike: agreement would mean nothing


@pytest.mark.parametrize("length", [1, 6])
def test_arithmetic_of_an_untouched_run(length):
    """Against torch's own count of a whole pass; it computes all queries of the last layer, and masked products, too."""
    shape = Shape(3, 4, 32, 60)
    plain = network(shape)
    plain.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain(torch.zeros(1, length, dtype=torch.int64), use_cache=False, logits_to_keep=1)
    unneeded = (length - 1) * (2 + 2 + 16) * shape.width**2
    masked = shape.layers * length**2 * 4 * shape.width - _seen(shape, length)
    assert counter.get_total_flops() - unneeded - masked - 2 * shape.width * (shape.vocabulary - 2) == pytest.approx(
        untouched_flops(shape, length))


def _seen(shape, length):
    visible = length * (length + 1) / 2
    return 4 * shape.width * ((shape.layers - 1) * visible + length)


def test_arithmetic_of_a_patch_by_hand():
    shape, d = Shape(2, 4, 32, 60), 32
    head_out, mlp, read = 2 * 8 * d, 16 * d * d, 2 * d * 2
    assert patched_flops(shape, 5, "z", 1, [4]) == head_out + mlp + read
    assert patched_flops(shape, 5, "z", 1, [3]) == 0
    above = 6 * d * d + 2 * d * 10 + 2 * d * d + mlp + read       # position 4 in layer 1: q, k, v, five keys, W_O, MLP
    assert patched_flops(shape, 5, "z", 0, [4]) == head_out + mlp + above
    above = 4 * d * d + 2 * d * (1 + 5) + 2 * d * d + mlp + read      # position 2: its k and v, one new score at the answer
    assert patched_flops(shape, 5, "z", 0, [2]) == head_out + mlp + above
    assert patched_flops(shape, 5, "v", 1, [2]) == 2 * 8 * 1 + head_out + mlp + read
    assert patched_flops(shape, 5, "q", 1, [4]) == 2 * 8 * 10 + head_out + mlp + read
    assert patched_flops(shape, 5, "k", 1, [0, 1]) == 2 * 8 * 7 + head_out + mlp + read
    assert sweep_flops(TINY) < sweep_flops(TINY, by_position=True) < sweep_flops(TINY) * TINY.length
    assert sweep_flops(TINY, first=5) < 0.6 * sweep_flops(TINY)


def test_arithmetic_of_edges_by_hand():
    """One layer of one head: the embedding into q, k, v, into the MLP and into the output, the head into the latter two."""
    shape, length, d = Shape(1, 1, 8, 60), 3, 8
    head_out, mlp, read = 2 * d * d, 16 * d * d, 2 * d * 2
    project, rest, keys = 2 * d * d, head_out + mlp + read, 2 * d * 3
    heads = (project + keys + keys + rest) + (3 * project + keys + keys + rest) + (3 * project + keys + rest)
    assert edges_flops(Setting(shape, prompts=2, length=length)) == 2 * (heads + 2 * (mlp + read) + 2 * read + read)


def test_matrix_rate():
    assert gflops(64, 64, 64, seconds=0.0) > 0


def test_peers_agree():
    rows = all_heads.measure(TINY).rows + tuple(by_position.race(TINY, "v", 5, parts=2))
    assert len(rows) == 5
    for row in rows[:4]:
        assert "same numbers" in row.note
        assert row.ratio > 0


def test_long_texts_against_plain_passes():
    rows = (*sink_table.measure(TINY).rows, *retrieval_grid.measure(TINY).rows)
    assert [row.sense for row in rows] == ["at most"] * 3
    for row in rows:
        assert row.ratio == pytest.approx(row.ours / row.peer)
    assert "same numbers" in rows[0].note
    assert "the same ones in all 9 cells" in rows[2].note


def test_edges_by_hooks_are_those_of_attribution_for_small_changes():
    """Patching an edge by plain hooks, the corrupted run a small step from the clean one, against its derivative."""
    setting = Setting(Shape(2, 2, 16, 60), prompts=1, length=5, threads=1)
    used, given, plain = model(setting.shape), pairs(setting), network(setting.shape).double()
    found = edges.attribution(used.bridge, given).run()
    scores: dict[str, float] = {}
    for (sender, receiver), score in found.edge_scores.items():
        name = f"{edges.name_of(sender)}->{edges.name_of(receiver)}"
        scores[name] = scores.get(name, 0.0) + score
    clean, corrupt = edges.writes(plain, given.clean), edges.writes(plain, given.corrupt)
    for name, score in scores.items():
        ends = []
        for step in (0.001, -0.001):
            near = {key: corrupt[key] + step * (clean[key] - corrupt[key]) for key in clean}
            with torch.no_grad():
                ends.append(float(given.metric(edges.patched(plain, given, name, near, corrupt))))
        assert (ends[0] - ends[1]) / 0.002 == pytest.approx(score, rel=1e-3, abs=1e-8), name
    assert len(scores) == 6 * 1 + 3 + 6 * 4 + 6 + 7      # q, k, v of 2 heads, an MLP, twice; the output


def test_command(tmp_path, monkeypatch, capsys):
    def fails(_):
        raise ValueError("no such thing")

    row = Row("x", 1.0, "y", 3.0, 3.0, 6.0, rounds={"ours": (1.0,)})
    fake = {"one": Benchmark("One", lambda _: Findings((row,)), 1, 1), "two": Benchmark("Two", fails, 1, 2),
            "far": Benchmark("Far", fails, 1, 3, apart=True)}
    monkeypatch.setattr(command, "benchmarks", lambda: fake)
    monkeypatch.setattr(page, "benchmarks", lambda: fake)
    threads = torch.get_num_threads()
    try:
        command.main(None, False, tmp_path)
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr()
    assert "short" in said.out
    assert "0 met, 1 short, 1 not measured" in " ".join(said.out.split())
    assert "no such thing" in said.err
    kept = page.results(tmp_path)
    assert list(kept) == ["one", "two"]
    assert kept["one"]["rows"][0]["met"] is False
    assert {"machine", "load", "date", "setting"} <= set(kept["one"])
    text = page.page(kept)
    assert "2 of 2 bars" in text
    assert "failed: ValueError: no such thing" in text
    assert "**Not measured yet**: Far (`far`)." in text


def test_every_benchmark_is_listed_once():
    found = benchmarks()
    assert {"all_heads", "by_position", "limit", "growth", "large_model"} <= set(found)
    assert len({one.place for one in found.values()}) == len(found)
    assert sum(one.minutes for one in found.values() if not one.apart) <= 60      # minutes, as they were measured


def test_kept_results_belong_to_benchmarks():
    for path in command.RESULTS.glob("*.json"):
        assert path.stem in benchmarks()
        assert json.loads(path.read_text())["name"] == path.stem


def test_ceilings_are_the_peers_time_over_the_arithmetic():
    def rows(*found: Row) -> dict:
        return {"rows": [vars(row) | {"met": row.met} for row in found]}

    heads = Row("all heads, all positions", ours=4.0, rival="them", peer=20.0, ratio=5.0, bar=6.0)
    limit = rows(Row("sweep over all heads", ours=4.0, peer=2.0))
    (text,) = page.ceilings({"all_heads": rows(heads), "limit": limit})
    assert "against them: 10.0 (measured 5.00, ≥ 6)" in text
    assert page.ceilings({"all_heads": rows(heads)}) == []
    patterns = Row("patterns of all heads", ours=4.0, rival="them", peer=20.0, ratio=5.0, bar=6.0)
    limit["rows"][0]["rounds"] = {"1e9 operations a second": [1.0, 2.0, 9.0]}
    limit["setting"] = asdict(TINY)
    (text,) = page.ceilings({"patterns": rows(patterns), "limit": limit})
    assert f"against them: {20.0 / (sweep_flops(TINY, 'pattern') / 2e9):.1f} (measured" in text


def test_words():
    assert [amount(x, "s") for x in (0.0123, 2.5, 300.0, 7300.0, None)] == ["12.3 ms", "2.50 s", "5.0 min", "2.0 h", "–"]
    assert amount(512.4, "MiB") == "512 MiB"
    assert verdict(Row("x", ratio=0.5, bar=1.0, sense="at most")) == "met"
    assert table("t", [Row("x", ratio=7.0, bar=6.0)]).row_count == 1


def test_plot():
    one = {"sizes": [4, 8, 16], "seconds": [0.1, 0.2, 0.4], "flops": [1, 2, 4], "exponent": 1.0, "counted": 1.0}
    svg = growth_plot({"heads": one, "layers": one})
    assert svg.count("<circle") == 6
    assert "size^1.00" in svg
