"""``MaskingCurve``: how often a model is right with the top K heads masked, beside as many others. Plain data, no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from interp.core.errors import InterpError
from interp.core.files import write_text
from interp.core.intervals import Floats
from interp.core.proportions import crossed_share, difference
from interp.core.provenance import plain
from interp.core.registry import unknown

TOP, RANDOM, MATCHED = "top", "random", "layer-matched"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class MaskingCurve:
    """Accuracy with K heads masked.

    Attributes:
        ks: how many heads were masked, ascending.
        untouched: accuracy per prompt without masking, 0 to 1, [prompt].
        lines: accuracy per prompt, [k, draw, prompt]: ``top`` (one draw: the heads of the highest scores), ``random`` (as
            many drawn from the others), ``layer-matched`` (drawn with as many in each layer as the top K have).
        heads: which heads were masked: line -> k -> draw -> names.
        unmatched: how many heads of a layer-matched draw came from another layer, because their own had none left [k].
        facts: model, task, measure that ranked the heads, mask, seed, what counts as right.
    """

    ks: tuple[int, ...]
    untouched: Floats
    lines: Mapping[str, Floats]
    heads: Mapping[str, tuple[tuple[tuple[str, ...], ...], ...]]
    unmatched: tuple[int, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fixed = {name: np.array(values, dtype=np.float64) for name, values in self.lines.items()}
        object.__setattr__(self, "untouched", np.array(self.untouched, dtype=np.float64))
        object.__setattr__(self, "lines", MappingProxyType(fixed))
        object.__setattr__(self, "heads", MappingProxyType(dict(self.heads)))
        object.__setattr__(self, "facts", MappingProxyType(plain(dict(self.facts), "facts")))
        for name, values in fixed.items():
            if values.ndim != 3 or len(values) != len(self.ks) or values.shape[2] != len(self.untouched):
                raise ValueError(f"the line {name!r} has the shape {values.shape} for {len(self.ks)} numbers of heads and "
                                 f"{len(self.untouched)} prompts")

    def share(self, line: str, k: int, confidence: float = 0.95) -> tuple[float, float, float]:
        """Accuracy with ``k`` heads of that line masked (0: none) and its interval over prompts and draws."""
        values = self.untouched[None] if k == 0 else self._at(line, k)
        return crossed_share(values, confidence)

    def lead(self, line: str, k: int, confidence: float = 0.95) -> tuple[float, float, float]:
        """Accuracy with ``k`` other heads masked less that with the top ``k`` masked, and its interval.

        Positive: the top heads matter more than the others. An interval above zero says so beyond chance.
        """
        return difference(self.share(line, k, confidence), self.share(TOP, k, confidence))

    def to_frame(self, confidence: float = 0.95) -> pd.DataFrame:
        """One row per line and K (K = 0: nothing masked): line, k, accuracy, low, high, draws, lead, lead_low, lead_high."""
        rows = []
        for line, values in self.lines.items():
            for k in (0, *self.ks):
                row = {"line": line, "k": k, **dict(zip(("accuracy", "low", "high"), self.share(line, k, confidence),
                                                        strict=True)), "draws": values.shape[1] if k else 1}
                led = self.lead(line, k, confidence) if k and line != TOP else (float("nan"),) * 3
                rows.append(row | dict(zip(("lead", "lead_low", "lead_high"), led, strict=True)))
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> Path:
        """Write a JSON file, whole or not at all."""
        content = {
            "format": FORMAT, "ks": list(self.ks), "untouched": self.untouched.tolist(),
            "lines": {name: values.tolist() for name, values in self.lines.items()},
            "heads": plain(dict(self.heads), "heads"), "unmatched": list(self.unmatched), "facts": dict(self.facts),
        }
        return write_text(path, json.dumps(content, allow_nan=False))

    @classmethod
    def load(cls, path: str | Path) -> "MaskingCurve":
        """Read what ``save`` wrote."""
        asked = f"read the masking curve {path}"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") > FORMAT:
                raise InterpError(asked, "it was written by a later version", "update interp")
            heads = {line: tuple(tuple(tuple(draw) for draw in k) for k in ks) for line, ks in content.pop("heads").items()}
            return cls(ks=tuple(content.pop("ks")), unmatched=tuple(content.pop("unmatched")), heads=heads, **content)
        except OSError as error:
            raise InterpError(asked, (error.strerror or str(error)).lower(), "check the path") from error
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InterpError(asked, "it is no masking curve", "give a file written by MaskingCurve.save") from error

    def _at(self, line: str, k: int) -> Floats:
        if line not in self.lines:
            raise unknown("line", line, list(self.lines))
        if k not in self.ks:
            raise InterpError(f"read the curve at {k} heads", f"it was measured at {', '.join(map(str, self.ks))}",
                              "choose one of these, or 0")
        return np.asarray(self.lines[line][self.ks.index(k)])
