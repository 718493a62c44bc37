"""The overlap view: numbers worked out by hand, and what it does in a real browser as a saved page."""

import json
from dataclasses import replace

import pytest
from graph_examples import HOSTILE, several
from saved_page import STATE, edges_drawn, get, serious

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.overlap import overlap
from interp.core.universe import Shape, universe
from interp.views.widgets.overlap import overlap_view, payload
from interp.views.widgets.page import save


def test_shared_heads_and_edges_with_chance_by_hand():
    circuits = several(3)
    data = payload(circuits)
    assert data["tasks"] == ["task_0", "task_1", "task_2"]
    assert (data["heads"], list(data["units"])) == ([12] * 3, ["heads", "edges"])
    heads, edges = data["units"]["heads"], data["units"]["edges"]
    assert (heads["n"], heads["sizes"], edges["sizes"]) == (36, [3, 3, 3], [5, 5, 5])
    pair = heads["pairs"][0]
    by_core = overlap(circuits["task_0"], circuits["task_1"], universe(Shape(3, 12), "heads"))
    assert (pair["a"], pair["b"], pair["shared"], pair["union"], pair["value"]) == (0, 1, 2, 4, 0.5)
    assert (pair["chance"], pair["anywhere"]) == pytest.approx((by_core.matched.jaccard, by_core.chance.jaccard))
    assert pair["p"] == pytest.approx(3 * (3 / 144 * 11 / 12 + 1 / 12**3))      # of three layers two are met, or all
    # three heads of equal weight, two of them shared: (2/3) / (4/3); by chance each layer is met with 1/12
    assert pair["weighted"]["value"] == pytest.approx(0.5)
    assert pair["weighted"]["chance"] == pytest.approx(3 / 12 * (1 / 3) / (5 / 3), abs=0.02)
    assert edges["pairs"][0]["value"] == 3 / 7
    assert heads["bars"][0] == {"in": [0, 1, 2], "count": 2, "chance": pytest.approx(3 * 12 * (1 / 12) ** 3),
                                "heads": [[0, 1], [1, 2]]}
    assert [(bar["in"], bar["count"], bar["heads"]) for bar in heads["bars"][1:] if bar["count"]] == [
        ([i], 1, [[2, i]]) for i in range(3)]
    json.dumps(data, allow_nan=False)


def test_the_union_tells_what_belongs_to_which():
    data = payload(several(2))
    inside = {node["name"]: node["in"] for node in data["nodes"]}
    assert inside == {"embed": [0, 1], "L0H1": [0, 1], "L1H2": [0, 1], "L2H0": [0], "L2H1": [1], "logits": [0, 1]}
    names = [node["name"] for node in data["nodes"]]
    edges = {(names[a], names[b], into): some for a, b, into, some in data["edges"]}
    assert edges["L0H1", "L1H2", "k"] == [0, 1]
    assert edges["embed", "L2H1", "v"] == [1]
    assert [len(some) for *_, some in data["edges"]] == [2, 2, 2, 1, 1, 1, 1]


def test_mlps_count_as_nodes_and_weights_need_every_score():
    edges = ["embed->L0H1.v", "L0H1->mlp2.mlp", "mlp2->logits.out"]
    told = {"shape": Shape(3, 12).record(), "scores": dict.fromkeys(edges, 2.0)}
    one = Circuit(edges=tuple(map(Edge.parse, edges)), provenance=told)
    other = Circuit(edges=tuple(map(Edge.parse, edges[:2])), provenance=told)
    units = payload({"one": one, "other": other})["units"]
    assert list(units) == ["heads", "nodes", "edges"]
    assert (units["nodes"]["n"], units["nodes"]["pairs"][0]["value"]) == (39, 1.0)
    assert units["nodes"]["pairs"][0]["weighted"]["value"] == pytest.approx(0.5 / 1.5)
    assert units["edges"]["pairs"][0]["value"] == 2 / 3
    part = replace(one, provenance={**told, "scores": {edges[0]: 2.0}})
    assert not payload({"one": one, "part": part})["units"]["nodes"]["weighted"]


def test_without_scores_or_edges_heads_alone_are_compared():
    plain = {name: Circuit(nodes=tuple(node for node in one.nodes if node.kind == "head"),
                           provenance={"shape": Shape(3, 12).record()}) for name, one in several(3).items()}
    data = payload(plain)
    assert list(data["units"]) == ["heads"]
    assert not data["units"]["heads"]["weighted"]
    assert "weighted" not in data["units"]["heads"]["pairs"][0]
    assert (data["edges"], data["total"]) == ([], 0)
    without = [replace(one, provenance={"shape": Shape(3, 12).record()}) for one in several(3).values()]
    assert not payload(without)["units"]["edges"]["weighted"]


def test_a_comparison_that_was_written_is_drawn_as_its_circuits_are(tmp_path):
    from interp.cli.comparing import compare

    paths = [one.save(tmp_path / f"{name}.json") for name, one in several(3).items()]
    for unit in ("heads", "edges"):
        compare(paths, unit=unit, out=tmp_path / "compared.json")
        one, other = payload(tmp_path / "compared.json"), payload(paths)
        assert one["tasks"] == other["tasks"]
        assert [bar["count"] for bar in one["units"][unit]["bars"]] == [bar["count"] for bar in other["units"][unit]["bars"]]
        assert [pair["p"] for pair in one["units"][unit]["pairs"]] == [pair["p"] for pair in other["units"][unit]["pairs"]]


@pytest.mark.parametrize(("shown", "words"), [
    (3, "int holds none"), ([], "0 circuits"), (list(several(1).values()), "1 circuits"),
    ([Circuit(name="a"), Circuit(name="b")], "shape"),
])
def test_what_cannot_be_compared_is_refused(shown, words):
    with pytest.raises(InterpError, match=words):
        payload(shown)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages of three tasks, of two, of many, of two that share nothing, and with a hostile name."""
    place = tmp_path_factory.mktemp("overlap")
    nothing = {name: Circuit(nodes=(Node("head", 0, i),), provenance={"shape": Shape(1, 2).record()})
               for i, name in enumerate(("a", "b"))}
    three = several(3)
    hostile = {HOSTILE: three["task_0"]} | {name: three[name] for name in ("task_1", "task_2")}
    shown = {"three": three, "two": several(2), "many": several(12), "apart": nothing, "hostile": hostile}
    for name, circuits in shown.items():
        save(overlap_view(circuits).state, "overlap", place / f"{name}.html")
    return place


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_trouble_for_readers_of_the_screen(tab, theme):
    page = tab("three")
    page.evaluate(f"{STATE}.update({{theme: '{theme}', sel: [[0, 1]], task: 'task_1'}})")
    assert serious(page) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["three", "two", "many", "apart", "hostile"])
def test_every_page_draws_and_asks_for_nothing(tab, name):
    page = tab(name)
    assert page.locator(".iw-graph svg").is_visible()
    assert page.locator(".iw-overlap-grid").is_visible()
    assert page.locator(".iw-overlap-columns").is_visible() == (name not in ("two", "apart"))
    assert page.locator("img, iframe").count() == 0
    assert page.evaluate("globalThis.hacked") is None
    assert not page.locator(".iw-tip").is_visible()


@pytest.mark.browser
def test_a_cell_says_its_numbers_and_selects_what_is_shared(tab):
    page = tab("three")
    cell = page.locator("td[data-at='1,0']")
    assert cell.inner_text().split("\n") == ["0.50", "chance 0.05", "p 0.059"]
    assert cell.get_attribute("aria-label") == ("task 0 and task 1: 2 of 4 heads shared, Jaccard 0.50, by chance 0.052, "
                                                "p 0.059 after correction")
    cell.click()
    assert get(page, "sel") == [[0, 1], [1, 2]]
    assert page.locator(".iw-chosen").count() == 2
    assert page.locator(".iw-overlap-holds").count() == 1
    assert "exact" in page.locator(".iw-legend").first.inner_text()
    assert "Holm-corrected for 3 pairs" in page.locator(".iw-legend").first.inner_text()


@pytest.mark.browser
def test_bars_select_their_heads_and_tasks_show_their_circuit(tab):
    page = tab("three")
    bars = page.locator(".iw-overlap-column")
    assert bars.nth(0).get_attribute("aria-label") == "2 heads in all task 0, task 1, task 2; by chance 0.021"
    page.get_by_label("1 head in exactly task 2;").click()
    assert get(page, "sel") == [[2, 2]]
    assert edges_drawn(page) == 9
    page.locator(".iw-overlap-names button").nth(1).click()
    assert (get(page, "task"), edges_drawn(page)) == ("task_1", 5)
    page.evaluate(f"{STATE}.update({{task: 'task_2'}})")
    assert page.locator(".iw-overlap-tasks [aria-pressed=true]").inner_text().endswith("task 2")
    page.locator(".iw-overlap-names button").nth(2).click()
    assert (get(page, "task"), edges_drawn(page)) == ("", 9)
    page.get_by_label("edges of the union that are drawn").select_option("3")
    assert edges_drawn(page) == 3
    page.get_by_label("unit that is compared").select_option("edges")
    assert page.locator("td[data-at='1,0'] b").inner_text() == "0.43"


@pytest.mark.browser
def test_the_keyboard_reaches_cells_and_bars(tab):
    page = tab("three")
    page.evaluate("document.addEventListener('keydown', () => { globalThis.leaked = true; })")
    page.locator("td[data-at='1,0']").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".iw-voice").inner_text().startswith("task 0 and task 2: 2 of 4 heads shared")
    page.keyboard.press("Enter")
    assert get(page, "sel") == [[0, 1], [1, 2]]
    page.locator(".iw-overlap-column").first.focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert "in exactly" in page.locator(".iw-voice").inner_text()
    page.keyboard.press("Enter")
    assert len(get(page, "sel")) <= 1
    assert page.evaluate("globalThis.leaked") is None


@pytest.mark.browser
def test_hues_for_few_tasks_and_labels_for_many(tab):
    page = tab("three")
    tones = page.locator(".iw-es path").evaluate_all("all => all.map((one) => one.getAttribute('class').split(' ')[1])")
    assert {tone: tones.count(tone) for tone in tones} == {"iw-e-shared": 3, "iw-e-t0": 2, "iw-e-t1": 2, "iw-e-t2": 2}
    page = tab("many")
    tones = set(page.locator(".iw-es path").evaluate_all("all => all.map((one) => one.getAttribute('class').split(' ')[1])"))
    assert tones == {"iw-e-m0", "iw-e-m4"}
    assert "12/12" in page.locator(".iw-under").all_text_contents()
    page.get_by_role("button", name="Table").click()
    assert page.locator(".iw-table table").first.locator("tbody tr").count() == 66
