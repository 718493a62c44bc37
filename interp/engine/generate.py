"""Greedy generation, token by token, with interventions active at every step."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from interp.core.errors import InterpError
from interp.engine.edits import Record
from interp.engine.forward import Chunk, Interventions, as_tuple, chunk, did_act, prepare_runs, refuse_identity
from interp.engine.intervention import Add, Intervention, Mean, Replace, Resample
from interp.engine.prompts import Prompts, chunks, sides
from interp.engine.sources import resampled
from interp.models.sites import SQUARE


@dataclass(frozen=True)
class Generated:
    """What was generated.

    Attributes:
        ids: token ids [n, steps].
        mask: where a token is (False after a stop token), bool [n, steps].
        logits: those that each token was chosen from [n, steps, vocab] (NaN where no step was taken), if asked for.
    """

    ids: Tensor
    mask: Tensor
    logits: Tensor | None = None

    def rows(self) -> list[list[int]]:
        """The generated ids of each prompt, the stop token included."""
        return [row[real].tolist() for row, real in zip(self.ids, self.mask, strict=True)]


def generate(model: Any, batch: Any, new_tokens: int, interventions: Interventions = (), on: str = "clean", *,
             stop: Collection[int] = (), batch_size: int | None = None, cache: bool = True, logits: bool = False,
             may_be_identity: bool = False) -> Generated:
    """The most likely continuation of each prompt, ``new_tokens`` long or up to and with a token of ``stop``.

    Interventions are active in every pass: ``positions=None`` acts on all tokens of the prompt and all generated ones;
    ``"end"`` on the prompt's last token and all generated ones (each token that a next one is predicted from); named spans
    and token indices on the prompt alone. It equals running the whole sequence anew for each token, with the same tokens
    edited. Prompts are padded on the left inside.

    Args:
        cache: keep keys and values between steps; False computes the whole sequence anew at each step (the same tokens,
            slowly).
        logits: also return the logits of each step.

    Raises:
        InterpError: for values that name no activation for tokens yet to come (a resampling or a mean by position of all
            tokens, of scores or of patterns; a tensor over the whole batch), a sequence longer than the context, an
            encoder-decoder, or as for ``run``.
    """
    interventions = as_tuple(interventions)
    if new_tokens < 1:
        raise InterpError(f"generate {new_tokens} tokens", "there is nothing to do", "ask for 1 or more")
    for item in interventions:
        _check_open_ended(item)
    runs = {name: left_padded(prompts) for name, prompts in sides(model, batch).items()}
    prepared = prepare_runs(model, runs, interventions, on, batch_size)
    longest = int(prepared.prompts.mask.sum(dim=1).max()) + new_tokens - 1
    if model.context_length is not None and longest > model.context_length:
        raise InterpError(f"generate {new_tokens} tokens", f"they need {longest} positions and the context has "
                          f"{model.context_length}", "ask for fewer, or shorten the prompts")
    parts, acted = [], []
    for rows in chunks(model, prepared.prompts, batch_size, held=resampled(interventions)):
        records = [Record() for _ in interventions]
        with torch.no_grad():
            parts.append(_decode(model, chunk(model, prepared, rows, interventions), new_tokens, interventions, records,
                                 stop, cache, logits))
        acted.append(did_act(interventions, records, len(rows)))
    if not may_be_identity:
        refuse_identity(interventions, torch.cat(acted, dim=1), on)
    steps = max(part.shape[1] for part, _ in parts)
    ids = torch.cat([pad(part, (0, steps - part.shape[1])) for part, _ in parts])
    chosen_from = [pad(part, (0, 0, 0, steps - part.shape[1]), value=torch.nan) for _, part in parts if logits]
    stopped = torch.isin(ids, torch.tensor(sorted(stop), dtype=ids.dtype, device=ids.device))
    mask = stopped.int().cumsum(dim=1) - stopped.int() == 0
    return Generated(ids, mask, torch.cat(chosen_from) if logits else None)


def _decode(model: Any, part: Chunk, new_tokens: int, interventions: tuple[Intervention, ...], records: list[Record],
            stop: Collection[int], cached: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Generated ids [n, steps] and, if they are to be kept, logits [n, steps, vocab] for one chunk of prompts."""
    now, ids = part.prompts, part.prompts.inputs["input_ids"]
    fed, cache, out, kept = ids, None, [], []
    stops = torch.tensor(sorted(stop), dtype=ids.dtype, device=ids.device)
    done = torch.zeros(now.n, dtype=torch.bool, device=ids.device)
    for _ in range(new_tokens):
        edits = replace(part, prompts=now).edits(interventions, records)
        inputs = {"input_ids": fed, "attention_mask": now.mask.to(ids.dtype)}
        passed = model.run(inputs, edits, cache=cache, use_cache=True) if cached else model.run(inputs, edits)
        token = passed.logits[:, -1].argmax(dim=-1)
        out.append(token)
        kept.append(passed.logits[:, -1:] if keep else passed.logits[:, :0])
        done |= torch.isin(token, stops)
        if bool(done.all()):
            break
        cache = passed.cache
        fed = token[:, None] if cached else torch.cat([fed, token[:, None]], dim=1)
        now = replace(now, mask=torch.cat([now.mask, torch.ones_like(now.mask[:, :1])], dim=1))
    return torch.stack(out, dim=1), torch.cat(kept, dim=1)


def left_padded(prompts: Prompts) -> Prompts:
    """The same prompts with all padding on the left and none that every prompt has."""
    if set(prompts.inputs) - {"input_ids", "attention_mask"}:
        raise InterpError("generate", "the prompts are not plain token sequences", "give input_ids and attention_mask only")
    width = int(prompts.mask.sum(dim=1).max())
    full = prompts.mask.shape[1]
    shift = full - 1 - prompts.end
    index = (torch.arange(full - width, full, device=shift.device) - shift[:, None]) % full
    mask = prompts.mask.gather(1, index)
    ids = prompts.inputs["input_ids"].gather(1, index)
    spans = {name: span + (shift - (full - width))[:, None] for name, span in prompts.spans.items()}
    end = torch.full_like(prompts.end, width - 1)
    inputs: Mapping[str, Tensor] = {"input_ids": ids, "attention_mask": mask.to(ids.dtype)}
    return replace(prompts, inputs=inputs, mask=mask, spans=spans, answer=end, end=end)


def _check_open_ended(item: Intervention) -> None:
    """Refuse an intervention that says nothing about tokens that are yet to come."""
    value = item.value
    followed = isinstance(value, Resample) or (isinstance(value, Mean) and value.mode == "position")
    tensor = value.vector if isinstance(value, Add) else value.tensor if isinstance(value, Replace) else None
    if followed and (item.positions is None or item.what in SQUARE or isinstance(getattr(value, "source", None), Tensor)):
        raise InterpError(f"{item} while generating", "it has no activation for tokens yet to come",
                          "name positions of the prompt or 'end', or use a mean by token")
    if isinstance(tensor, Tensor) and tensor.dim() > (1 if item.site.head_axis is None else 2):
        raise InterpError(f"{item} while generating", "a tensor over the whole batch ends with the prompts",
                          "give a number, [d] or [heads, d]")
