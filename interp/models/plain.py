"""A transformer with nothing in it that weights written by hand would have to work around.

``PlainForCausalLM`` is a transformers model without norms: embedding plus absolute position embedding, blocks of attention
and (optionally) a ReLU MLP that each add to the residual stream, and a linear unembedding::

    x = embed_tokens[ids] + embed_positions[position]
    x = x + sum over heads of  softmax(scale · q kᵀ) v W_O      in every block
    x = x + W_down relu(W_up x)                                 where the block has an MLP
    logits = lm_head x

It carries the hand-made circuits of ``interp.models.handmade`` and compiled programs (bidirectional, ReLU). Attention goes
through transformers' attention interface, so every site that other models offer is there to be read and edited.
"""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class PlainConfig(PreTrainedConfig):
    """Shape of a plain transformer.

    Attributes:
        vocab_size, hidden_size, num_hidden_layers, num_attention_heads: as everywhere; ``num_attention_heads · head_dim``
            need not be ``hidden_size``.
        head_dim: size of a query, key and value.
        intermediate_size: neurons of the MLP of each layer; 0 for a transformer of attention alone.
        max_position_embeddings: longest prompt, in tokens.
        causal: whether a position sees only itself and earlier ones.
        attention_scale: factor on q·k before the softmax; None is 1/sqrt(head_dim).
        attention_bias, mlp_bias: whether the projections of attention and MLP have biases.
    """

    model_type = "interp_plain"
    keys_to_ignore_at_inference = ("past_key_values",)

    vocab_size: int = 16
    hidden_size: int = 32
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    head_dim: int = 8
    intermediate_size: int = 0
    max_position_embeddings: int = 64
    causal: bool = True
    attention_scale: float | None = None
    attention_bias: bool = False
    mlp_bias: bool = True
    initializer_range: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """Softmax attention of [batch, head, position, head_dim] tensors: z [batch, position, head, head_dim] and pattern."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    pattern = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    pattern = nn.functional.dropout(pattern, p=dropout, training=module.training)
    return torch.matmul(pattern, value).transpose(1, 2).contiguous(), pattern


class PlainAttention(nn.Module):
    """Attention heads that read the residual stream as it is."""

    def __init__(self, config: PlainConfig, layer_idx: int):
        super().__init__()
        width = config.num_attention_heads * config.head_dim
        self.config, self.layer_idx, self.head_dim = config, layer_idx, config.head_dim
        self.num_key_value_groups, self.is_causal = 1, config.causal
        self.scaling = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
        self.q_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=config.attention_bias)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, past_key_values: Cache | None = None, **kwargs
    ) -> tuple[Tensor, Tensor | None]:
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(shape).transpose(1, 2) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        z, pattern = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(z.reshape(*hidden_states.shape[:-1], -1).contiguous()), pattern


class PlainMLP(nn.Module):
    """One hidden layer of ReLU neurons."""

    def __init__(self, config: PlainConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.down_proj(nn.functional.relu(self.up_proj(hidden_states)))


class PlainLayer(nn.Module):
    """A block: attention, then the MLP where there is one."""

    def __init__(self, config: PlainConfig, layer_idx: int):
        super().__init__()
        self.self_attn = PlainAttention(config, layer_idx)
        self.mlp = PlainMLP(config) if config.intermediate_size else None

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        hidden_states = hidden_states + self.self_attn(hidden_states, **kwargs)[0]
        return hidden_states if self.mlp is None else hidden_states + self.mlp(hidden_states)


class PlainPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of a plain transformer."""

    config_class = PlainConfig
    base_model_prefix = "model"
    _supports_attention_backend = True
    _supports_sdpa = True


class PlainModel(PlainPreTrainedModel):
    """The blocks without the unembedding. Positions count real tokens, so padding on either side changes nothing."""

    def __init__(self, config: PlainConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList([PlainLayer(config, i) for i in range(config.num_hidden_layers)])
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            if attention_mask is None or attention_mask.dim() != 2:
                position_ids = torch.arange(seen, seen + embedded.shape[1], device=embedded.device)[None]
            else:
                position_ids = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, seen:]
        make_mask = create_causal_mask if self.config.causal else create_bidirectional_mask
        mask = make_mask(
            config=self.config, inputs_embeds=embedded, attention_mask=attention_mask, past_key_values=past_key_values
        )
        hidden_states = embedded + self.embed_positions(position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask=mask, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states, past_key_values=past_key_values)


class PlainForCausalLM(PlainPreTrainedModel, GenerationMixin):
    """A plain transformer with its unembedding."""

    def __init__(self, config: PlainConfig):
        super().__init__(config)
        self.model = PlainModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=past_key_values,
            inputs_embeds=inputs_embeds, use_cache=use_cache, **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept, :])
        return CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)


AutoConfig.register(PlainConfig.model_type, PlainConfig, exist_ok=True)
AutoModelForCausalLM.register(PlainConfig, PlainForCausalLM, exist_ok=True)
