"""The examples of docs/sweeps.md run, in order, as one program."""

import re

import pytest


def blocks(root) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (root / "docs" / "sweeps.md").read_text(encoding="utf-8"), flags=re.S)


@pytest.fixture(scope="module")
def program(root, tmp_path_factory):
    """The names that the examples without Ray leave behind."""
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("examples"))
        for block in blocks(root):
            if "RayWorkers" not in block:
                exec(block, names)
    return names


def test_the_examples_run_and_say_what_the_page_says(program):
    model = program["model"]
    assert program["found"].values.shape == (model.n_layers * model.n_heads, 8)
    assert program["both"].shape == (5, 8)
    assert program["scores"].values.shape == (model.n_layers, model.n_heads, 8)


@pytest.mark.ray
def test_the_examples_on_ray_run(program, root):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'interp[ray]'")
    (block,) = (block for block in blocks(root) if "RayWorkers" in block)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    try:
        exec(block, program)
    finally:
        ray.shutdown()
