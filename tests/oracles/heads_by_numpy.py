"""Weights of a Llama's heads and norm-weighted attention written a second time: plain numpy on safetensors' arrays."""

import json

import numpy as np
from safetensors.numpy import load_file


class Llama:
    """Matrices per head in row-vector convention, the norms' weights multiplied in, float64."""

    def __init__(self, folder):
        self.arrays = {name: x.astype(np.float64) for name, x in load_file(folder / "model.safetensors").items()}
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.heads, self.kv = config["num_attention_heads"], config["num_key_value_heads"]
        self.layers, self.size = config["num_hidden_layers"], config["hidden_size"] // config["num_attention_heads"]
        self.embed = self.arrays["model.embed_tokens.weight"]
        head = self.arrays.get("lm_head.weight", self.embed)
        self.unembed = (head * self.arrays["model.norm.weight"]).T

    def matrix(self, which, layer, head):
        name = f"model.layers.{layer}.self_attn.{which}_proj.weight"
        at = head * self.kv // self.heads if which in "kv" else head
        rows = slice(at * self.size, (at + 1) * self.size)
        if which == "o":
            return self.arrays[name][:, rows].T
        return self.arrays[name][rows].T * self.arrays[f"model.layers.{layer}.input_layernorm.weight"][:, None]

    def ov(self, layer, head):
        return self.matrix("v", layer, head) @ self.matrix("o", layer, head)

    def copying(self, layer, head):
        """(eigenvalue score, share of tokens that raise themselves most), from the whole matrix over the vocabulary."""
        whole = self.embed @ self.ov(layer, head) @ self.unembed
        values = np.linalg.eigvals(whole)
        return values.sum().real / np.abs(values).sum(), (whole.argmax(1) == np.arange(len(whole))).mean()

    def composition(self, kind, later, earlier):
        sent, norm = self.ov(*earlier), np.linalg.norm
        qk = self.matrix("q", *later) @ self.matrix("k", *later).T
        read = {"Q": qk, "K": qk.T, "V": self.ov(*later)}[kind]
        return norm(sent @ read) / norm(sent) / norm(read) - sent.shape[0] ** -0.5


def rollout(attentions):
    """Rows of the published rollout, heads averaged, of [layer, head, query, key]."""
    total = np.eye(attentions.shape[-1])
    for layer in attentions:
        total = (0.5 * layer.mean(0) + 0.5 * np.eye(len(total))) @ total
    return total
