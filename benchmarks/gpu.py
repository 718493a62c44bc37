"""Absolute times on a GPU, where one is at hand: 1.5 billion parameters, and an 8-billion Llama shape."""

import statistics
import time
from typing import Any

import torch
import transformers

import interp
from benchmarks.harness.result import Benchmark, Findings, Row
from benchmarks.harness.shapes import GPT2_XL, Setting, Shape, every_head, network, pairs
from interp.engine import sweep

LLAMA_8B = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
            "intermediate_size": 14336, "vocab_size": 128256}


def measure(setting: Setting) -> Findings:
    """All heads, all positions, one pair of prompts, bfloat16; median of repeats after one to warm up."""
    if not torch.cuda.is_available():
        return Findings((Row("no GPU here", note="nothing was measured"),))
    device = torch.cuda.get_device_name()
    rows = [_timed(f"GPT-2 XL shape on {device}", lambda: network(GPT2_XL, torch.bfloat16), GPT2_XL, setting),
            _timed(f"Llama 8B shape on {device}", _llama, Shape(32, 32, 4096, 128256), setting)]
    return Findings(tuple(rows))


def _llama() -> Any:
    with torch.random.fork_rng(devices=[]), torch.device("cuda"):
        torch.manual_seed(0)
        config = transformers.LlamaConfig(**LLAMA_8B)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def _timed(what: str, make: Any, shape: Shape, setting: Setting) -> Row:
    one = Setting(shape, 1, setting.length)
    used = interp.load(make(), device="cuda")
    batch = pairs(one).batch(used)
    heads = every_head(shape)
    torch.cuda.reset_peak_memory_stats()
    taken = []
    for _ in range(setting.repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        sweep(used, batch, heads, on="corrupt")
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30
    del used
    torch.cuda.empty_cache()
    return Row(what, statistics.median(taken[1:]), note=f"{len(heads):,} heads; {memory:.1f} GiB of the device at most",
               rounds={"ours": tuple(taken[1:])})


BENCHMARK = Benchmark("On a GPU", measure, minutes=0.1, place=16)
