"""Nothing in the backend goes by the name of an architecture: others load, pass every check, or are refused for a reason."""

import pytest
import torch
import transformers

from interp.core.errors import InterpError
from interp.models.load import load
from interp.models.tiny import VOCAB, randomise

DECODER = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
           "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
           "max_position_embeddings": 64, "pad_token_id": 1}
GPT = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 8,
         "patch_size": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
SLIDING = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
MBART = {"vocab_size": VOCAB, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def random_model(name, options):
    prefix = name.removesuffix("Model").split("For")[0].removesuffix("LMHead")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(getattr(transformers, prefix + "Config")(**options))
        randomise(model)
    return model.eval()


@pytest.mark.parametrize(("name", "options", "missing"), [
    ("GPTNeoForCausalLM", {"vocab_size": VOCAB, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 4,
                           "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64}, set()),
    ("MptForCausalLM", {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}, set()),
    ("CodeGenForCausalLM", GPT | {"rotary_dim": 4}, {"q_pre", "k_pre", "resid_mid"}),
    ("GPTBigCodeForCausalLM", GPT, set()),
    ("PhiForCausalLM", DECODER, {"resid_mid"}),
    ("GemmaForCausalLM", DECODER | {"head_dim": 12}, set()),
    ("StableLmForCausalLM", DECODER, set()),
    ("SmolLM3ForCausalLM", DECODER, set()),
    ("Cohere2ForCausalLM", DECODER | SLIDING, {"resid_mid"}),
    ("Qwen3MoeForCausalLM", DECODER | EXPERTS, set()),
    ("Glm4ForCausalLM", DECODER | {"head_dim": 8}, set()),
    ("RobertaForMaskedLM", ENCODER, set()),
    ("DistilBertForMaskedLM", {"vocab_size": VOCAB, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}, set()),
    ("DeiTForImageClassification", IMAGE, set()),
    ("CLIPVisionModel", IMAGE, set()),
    ("MBartForConditionalGeneration", MBART, set()),
])
def test_an_architecture_that_was_not_thought_of(name, options, missing):
    model = load(random_model(name, options))
    assert not model.verification.refused
    assert not model.verification.silent
    main = {site.what for site in model.sites() if site.attention == model.stacks[0].attention}
    assert {"q_pre", "k_pre", "z", "result", "attn_write", "mlp_write", "resid_mid"} - main == missing
    assert model.verification.inexact_padding == (("left",) if name.startswith("MBart") else ())


def test_windows_of_gpt_neo():
    model = random_model("GPTNeoForCausalLM", {"vocab_size": VOCAB, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
                                               "attention_types": [[["global", "local"], 1]], "window_size": 4})
    assert load(model).stacks[0].windows == (None, 4)


@pytest.mark.parametrize(("name", "options", "reason"), [
    ("AlbertForMaskedLM", ENCODER | {"embedding_size": 32}, "runs several times in one pass"),
    ("Qwen3NextForCausalLM", DECODER | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention",
                                                                     "linear_attention"]}, "only 1 of the 3 blocks"),
    ("WhisperForConditionalGeneration", MBART | {"encoder_layers": 1, "decoder_layers": 1}, "it takes input_features"),
])
def test_what_cannot_be_worked_on_says_why(name, options, reason):
    with pytest.raises(InterpError, match=reason):
        load(random_model(name, options))
