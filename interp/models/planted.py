"""``Planted``: the circuit of a compiled program, planted by training in a small model whose weights are dense and noisy.

    made = PLANTED["planted-reverse"]()
    model = interp.load("planted-reverse")

Weights and facts lie in ``data/planted``, with the script that trains them: interchange-intervention training (Geiger et al.
2022, arXiv 2112.00826) with the strict loss of Gupta et al. 2024 (arXiv 2407.14494), on edges. Vocabulary, prompts and the
way the answer is read off are those of the program; every weight is trained from a random start. Where the planted circuit
lies, and how far the model does without the rest, is in ``circuits/planted``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interp.core.registry import Registry
from interp.models.compiled import Compiled, fields, frozen


@dataclass(frozen=True, eq=False)
class Planted(Compiled):
    """A model with a planted circuit.

    Attributes:
        program: the compiled program whose circuit it has (``compiled-reverse``).
        alignment: node of the program -> node of this model.
        figures: how well that holds on prompts that took no part in the training (``data/planted/check.py``).
    """

    program: str
    alignment: Mapping[str, str]
    figures: Mapping[str, float]


def _build(file: Path) -> Planted:
    found, facts = fields(file, "planted")
    return Planted(**found, program=facts["program"], alignment=facts["alignment"], figures=facts["figures"])


PLANTED: Registry[Callable[[], Planted]] = Registry("model with a planted circuit")
for _file in frozen("planted"):
    PLANTED.add(f"planted-{_file.stem}", partial(_build, _file))
