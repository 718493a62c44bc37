"""Compile the programs to transformer weights: ``pip install tracr-pypi``, then ``python compile.py``.

Writes ``<program>.safetensors`` (the weights, float32, under the names of ``interp.models.plain``) and ``<program>.json``
(shape, vocabulary, what it computes) beside this file. Exact and without a seed: a second run writes the same numbers.
"""

import json
from pathlib import Path

import numpy as np
from programs import LENGTH, PROGRAMS, Program
from safetensors.numpy import save_file
from tracr.compiler import compiling, nodes, rasp_to_graph
from tracr.rasp import rasp

HERE = Path(__file__).resolve().parent
BOS = "<bos>"


def main() -> None:
    for name, program in PROGRAMS.items():
        weights, facts = compiled(program)
        save_file(weights, HERE / f"{name}.safetensors", metadata={"format": "pt"})
        (HERE / f"{name}.json").write_text(json.dumps({"name": name, "computes": program.computes} | facts, indent=1) + "\n")
        print(name, facts["config"])


def compiled(program: Program) -> tuple[dict[str, np.ndarray], dict]:
    """Weights under their new names, and the facts that go with them."""
    built = program.build()
    made = compiling.compile_rasp_to_model(built, vocab=set(program.tokens), max_seq_len=LENGTH, compiler_bos=BOS)
    shape, labels = made.model_config, made.residual_labels
    old = {name: {part: np.asarray(x) for part, x in parts.items()} for name, parts in made.params.items()}
    assert not any(x.any() for name, part in old.items() if "/attn/" in name for n, x in part.items() if n == "b")
    ids = {word: row for word, row in made.input_encoder.encoding_map.items() if word != "compiler_pad"}
    inputs = sorted(ids, key=ids.get)
    embed = old["token_embed"]["embeddings"][[ids[word] for word in inputs]]
    columns = [i for i, label in enumerate(labels) if label.split(":")[0] == output_of(built)]
    outputs = ["value", "zero"] if program.numerical else [f"={labels[i].split(':')[1]}" for i in columns]
    vocabulary = [str(word) for word in inputs] + outputs
    width = embed.shape[1]
    unembed = np.zeros((len(vocabulary), width), np.float32)
    for row, column in zip(range(len(inputs), len(vocabulary)), columns, strict=False):
        unembed[row, column] = 1
    weights = {
        "model.embed_tokens.weight": np.concatenate([embed, np.zeros((len(outputs), width))]),
        "model.embed_positions.weight": old["pos_embed"]["embeddings"],
        "lm_head.weight": unembed,
    }
    for layer in range(shape.num_layers):
        here, there = f"transformer/layer_{layer}", f"model.layers.{layer}"
        for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "linear")):
            weights[f"{there}.self_attn.{ours}_proj.weight"] = old[f"{here}/attn/{theirs}"]["w"].T
        for ours, theirs in (("up", "linear_1"), ("down", "linear_2")):
            weights[f"{there}.mlp.{ours}_proj.weight"] = old[f"{here}/mlp/{theirs}"]["w"].T
            weights[f"{there}.mlp.{ours}_proj.bias"] = old[f"{here}/mlp/{theirs}"]["b"]
    config = {
        "vocab_size": len(vocabulary), "hidden_size": width, "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads, "head_dim": shape.key_size, "intermediate_size": shape.mlp_hidden_size,
        "max_position_embeddings": LENGTH + 1, "causal": False,
    }
    facts = {"vocabulary": vocabulary, "tokens": [str(word) for word in program.tokens], "length": LENGTH,
             "distinct": program.distinct, "numerical": program.numerical, "config": config}
    return {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in weights.items()}, facts


def output_of(built: rasp.SOp) -> str:
    """The name of the variable of the residual stream that holds the output."""
    return rasp_to_graph.extract_rasp_graph(built).sink[nodes.ID]


if __name__ == "__main__":
    main()
