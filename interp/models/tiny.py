"""``tiny``: small random models of every supported architecture, from a configuration alone.

They have the parts that make architectures differ (grouped heads, sliding windows, soft caps, post-norms, parallel blocks,
learned sinks, latent attention, ...) at a size where a forward pass takes milliseconds. Weights are large enough that
every head matters, and norms and biases are random too, so that no part can be forgotten without a test seeing it.
"""

from typing import Any

import torch
from torch import Tensor

from interp.core.registry import unknown

VOCAB = 97
IMAGE = 8

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_LLAMA: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "rope_parameters": _ROPE, "tie_word_embeddings": False,
}
_KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
_WINDOWED = {"sliding_window": 4, "layer_types": _KINDS, "head_dim": 12}
_GEMMA = _LLAMA | _WINDOWED | {"query_pre_attn_scalar": 10, "tie_word_embeddings": True}
_GEMMA3_ROPE = {"full_attention": _ROPE, "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_FALCON: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64,
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "rope_parameters": _ROPE, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BERT: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0,
}

# name: (configuration class, model class, options of the configuration)
_ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel",
             {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "bos_token_id": 1,
              "eos_token_id": 2}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _LLAMA),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _LLAMA),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", _LLAMA | {"head_dim": 12}),
    "mistral": ("MistralConfig", "MistralForCausalLM", _LLAMA | {"sliding_window": 4}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", _LLAMA | _EXPERTS),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM",
               _GEMMA | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA | {"rope_parameters": _GEMMA3_ROPE}),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM",
                 {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
                  "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
                  "rope_parameters": _ROPE | {"partial_rotary_factor": 0.5}}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", _LLAMA),
    "opt": ("OPTConfig", "OPTForCausalLM",
            {"vocab_size": VOCAB, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
             "max_position_embeddings": 64, "word_embed_proj_dim": 32, **_IDS}),
    "gptj": ("GPTJConfig", "GPTJForCausalLM",
             {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "rotary_dim": 4,
              "bos_token_id": 1, "eos_token_id": 2}),
    "falcon": ("FalconConfig", "FalconForCausalLM",
               _FALCON | {"multi_query": True, "parallel_attn": True, "new_decoder_architecture": False}),
    "falcon_new": ("FalconConfig", "FalconForCausalLM",
                   _FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True, "bias": True}),
    "falcon_alibi": ("FalconConfig", "FalconForCausalLM",
                     _FALCON | {"multi_query": False, "parallel_attn": False, "alibi": True, "bias": True,
                                "new_decoder_architecture": False}),
    "bloom": ("BloomConfig", "BloomForCausalLM",
              {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 3, "n_head": 4, "hidden_dropout": 0.0,
               "attention_dropout": 0.0, **_IDS}),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", _LLAMA | _EXPERTS | _WINDOWED),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM",
                    _LLAMA | {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
                              "qk_rope_head_dim": 4, "v_head_dim": 10, "n_routed_experts": 4, "num_experts_per_tok": 2,
                              "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 24,
                              "n_shared_experts": 1}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", _LLAMA),
    "bert": ("BertConfig", "BertForMaskedLM", _BERT),
    "vit": ("ViTConfig", "ViTForImageClassification",
            {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
             "image_size": IMAGE, "patch_size": 4, "num_channels": 1, "num_labels": 10}),
    "t5": ("T5Config", "T5ForConditionalGeneration",
           {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "pad_token_id": 0,
            "eos_token_id": 2, "decoder_start_token_id": 0, "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 16}),
    "bart": ("BartConfig", "BartForConditionalGeneration",
             {"vocab_size": VOCAB, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
              "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
              "decoder_start_token_id": 2, "forced_eos_token_id": None, **_IDS}),
}

ENCODERS = ("bert", "vit")
ENCODER_DECODERS = ("t5", "bart")
DECODERS = tuple(name for name in _ARCHITECTURES if name not in ENCODERS + ENCODER_DECODERS)
ARCHITECTURES = DECODERS + ENCODERS + ENCODER_DECODERS


def tiny(architecture: str, seed: int = 0, **overrides: Any) -> Any:
    """A random transformers model (evaluation mode, float32, CPU) of one of ``ARCHITECTURES``.

    Args:
        seed: of the weights; the global random state is left as it was.
        overrides: options of the model's configuration, e.g. ``num_hidden_layers=1``.

    Raises:
        InterpError: there is no architecture of that name.
    """
    import transformers

    if architecture not in _ARCHITECTURES:
        raise unknown("architecture", architecture, list(_ARCHITECTURES))
    config_class, model_class, options = _ARCHITECTURES[architecture]
    config = getattr(transformers, config_class)(**(options | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, model_class)(config)
        randomise(model)
    return model.eval()


def randomise(model: torch.nn.Module) -> None:
    """Draw every parameter anew: matrices 0.25 · N(0, 1), vectors 0.3 · N(0, 1) around where they were made (0 or 1)."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            parameter.copy_(0.25 * noise if parameter.ndim >= 2 else parameter.nan_to_num().clamp(0, 1) + 0.3 * noise)


def inputs(architecture: str, n: int = 2, length: int = 10, seed: int = 0) -> dict[str, Tensor]:
    """Random valid inputs of ``n`` examples: tokens (and decoder tokens) of ``length`` with a full mask, or images."""
    if architecture not in _ARCHITECTURES:
        raise unknown("architecture", architecture, list(_ARCHITECTURES))
    generator = torch.Generator().manual_seed(seed)
    if architecture == "vit":
        return {"pixel_values": torch.randn(n, 1, IMAGE, IMAGE, generator=generator)}
    ids = torch.randint(3, VOCAB, (n, length), generator=generator)
    tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if architecture in ENCODER_DECODERS:
        tokens["decoder_input_ids"] = torch.randint(3, VOCAB, (n, max(length - 2, 1)), generator=generator)
    return tokens
