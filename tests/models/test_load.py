"""Loading: by name, from a folder, in memory, in every dtype; and one clear sentence for what cannot be loaded."""

import json

import pytest
import torch

import interp.models.load as loading
from interp.core.errors import InterpError
from interp.models.builtin import shipped
from interp.models.handmade import HANDMADE
from interp.models.load import load
from interp.models.sites import Site
from interp.models.tiny import ARCHITECTURES, DECODERS, inputs, tiny
from interp.models.transformers_backend import TransformersBackend
from interp.models.verify import logits_of


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import huggingface_hub.constants
    import transformers.utils.hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(transformers.utils.hub, "is_offline_mode", lambda: True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_loads_from_memory_and_from_a_folder(name, tmp_path):
    network = tiny(name)
    model = load(network)
    assert not model.verification.refused
    assert not model.verification.silent
    assert max(error for check, error in model.verification.errors.items() if "padding" not in check) < 1e-4
    network.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.weights_sha256 == model.weights_sha256
    assert (again.stacks, again.sites(), again.tokenizer) == (model.stacks, model.sites(), None)
    with torch.no_grad():
        one, two = model.run(inputs(name)), again.run(inputs(name))
    torch.testing.assert_close(logits_of(one), logits_of(two))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_low_precision(name, dtype):
    """Loads, verifies, runs with every site captured; close to float32 where no expert is chosen otherwise."""
    model, exact = load(tiny(name), dtype=dtype), TransformersBackend(tiny(name))
    given = inputs(name)
    assert model.sites() == exact.sites()
    with torch.no_grad():
        run = model.run(given, dict.fromkeys(model.sites(), torch.clone), model.sites())
        expected = exact.run(given)
    got, expected = logits_of(run), logits_of(expected)
    assert got.dtype == model.dtype
    assert got.isfinite().all()
    if name not in ("mixtral", "gpt_oss", "deepseek_v3"):
        assert (got.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_facts_and_provenance_of_a_model():
    model = load(tiny("llama", num_hidden_layers=2))
    assert (model.n_layers, model.n_heads, model.n_kv_heads, model.d_head, model.d_model) == (2, 4, 2, 8, 32)
    assert (model.context_length, model.vocab_size, model.dtype, str(model.device)) == (64, 97, torch.float32, "cpu")
    assert model.stack("self") == model.stack() == model.stacks[0]
    record = model.provenance_dict()
    assert set(record) == {"name", "revision", "dtype", "backend", "architecture", "weight_processing", "weights_sha256"}
    assert record["architecture"] == "LlamaForCausalLM"
    assert len(record["weights_sha256"]) == 64
    json.dumps(record)
    assert load(tiny("llama", seed=1, num_hidden_layers=2)).weights_sha256 != model.weights_sha256
    assert model.W_O(0).shape == (4, 8, 32)
    assert model.W_Q(0).shape == (4, 32, 8)
    assert model.W_K(0).shape == model.W_V(0).shape == (2, 32, 8)
    with pytest.raises(InterpError, match="choose one of self"):
        model.stack("cross")


@pytest.mark.parametrize("name", list(HANDMADE))
def test_handmade_models_load_by_name(name):
    model = load(name)
    assert model.tokenizer is not None
    assert not model.verification.refused
    assert {"z", "pattern", "q", "k", "v", "result"} <= {site.what for site in model.sites()}


def test_two_models_of_one_network_do_not_meet():
    network = tiny("gpt2")
    one, two = load(network), load(network)
    given, site = inputs("gpt2"), Site("z", 0)
    with torch.no_grad():
        plain = network(**given).logits
        edited = one.run(given, {site: torch.zeros_like}).logits
        torch.testing.assert_close(two.run(given).logits, plain)
        torch.testing.assert_close(network(**given).logits, plain)
    assert not torch.allclose(edited, plain)


def test_a_network_in_training_is_run_in_evaluation_mode_and_left_in_training():
    network = tiny("gpt2").train()
    model, given = load(network), inputs("gpt2")
    with torch.no_grad():
        torch.testing.assert_close(model.run(given).logits, network.eval()(**given).logits)
    assert load(network.train()).weights is not network
    assert network.training


def test_a_model_of_a_model():
    model = load(tiny("llama"))
    again = load(model.weights)
    assert again.weights_sha256 == model.weights_sha256
    with torch.no_grad():
        torch.testing.assert_close(again.run(inputs("llama")).logits, model.run(inputs("llama")).logits)


@pytest.mark.parametrize(("name", "sentence"), [
    ("gtp2", "did you mean 'gpt2'"),
    ("handmade-inductoin", "did you mean 'handmade-induction'"),
    ("xyzzy", "choose one of"),
    ("gpt2", "the Hub does not give it"),
    ("nobody/nothing", "give a local folder"),
    ("./nowhere", "there is no such folder"),
    ("/nowhere/at/all", "there is no such folder"),
])
def test_names_that_lead_nowhere(name, sentence):
    with pytest.raises(InterpError, match=sentence):
        load(name)


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(InterpError, match=r"has no config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InterpError, match="has no weights"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InterpError, match="transformers cannot read it"):
        load(tmp_path)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InterpError, match="it is a file"):
        load(file)


def test_damaged_and_incomplete_weights(tmp_path):
    from safetensors.torch import load_file, save_file

    network = tiny("llama")
    network.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InterpError, match=r"weights are missing \(model.layers.1.self_attn.q_proj.weight\)"):
        load(tmp_path)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InterpError, match="transformers cannot read it"):
        load(tmp_path)


def test_a_model_without_attention_is_refused():
    import transformers

    network = transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2))
    with pytest.raises(InterpError, match="no softmax attention was found"):
        load(network)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"dtype": "float23"}, "did you mean 'float32'"),
    ({"device": "cdua"}, "did you mean 'cuda'"),
    ({"backend": "transformer-lens"}, "did you mean 'transformer_lens'"),
    ({"tokenizer": "/no/tokenizer"}, "load the tokenizer"),
])
def test_options_that_are_none(options, sentence):
    with pytest.raises(InterpError, match=sentence):
        load(tiny("gpt2"), **options)


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InterpError, match="this torch finds no such device"):
        load(tiny("gpt2"), device="cuda")


@pytest.mark.parametrize("thing", [42, None, torch.nn.Linear(2, 2)])
def test_things_that_are_no_model(thing):
    with pytest.raises(InterpError, match="in memory"):
        load(thing)


def test_shipped_models_are_those_of_the_checkout(root, monkeypatch, tmp_path):
    assert all(folder == root / "data" / "models" / name for name, folder in shipped().items())
    tiny("gpt2").save_pretrained(tmp_path / "small")
    monkeypatch.setattr(loading, "shipped", lambda: {"small": tmp_path / "small"})
    assert load("small").name == "small"


@pytest.mark.parametrize("name", [n for n in DECODERS if n != "deepseek_v3"][:4])
def test_the_bridge_of_a_model_has_its_weights(name):
    model, given = load(tiny(name)), inputs(name)
    with torch.no_grad():
        logits = model.bridge(given["input_ids"])
        torch.testing.assert_close(logits, model.run(given).logits, atol=1e-4, rtol=1e-4)


def test_a_name_loaded_twice_gives_two_models():
    one, two = load("handmade-induction"), load("handmade-induction")
    assert next(one.weights.parameters()).data_ptr() != next(two.weights.parameters()).data_ptr()
