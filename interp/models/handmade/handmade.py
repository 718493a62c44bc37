"""``HandMade``: a model whose weights are written by hand, with its circuit, its prompts and what is true of its heads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from interp.core.circuit import Circuit, Edge, Node
from interp.core.errors import InterpError
from interp.core.head import Head
from interp.core.registry import unknown
from interp.models.plain import PlainForCausalLM

BOS = "<bos>"
KINDS = ("noising", "denoising", "zero", "mean")
"""Ways of removing a head, for which a truth is stated: ``noising`` puts the corrupted prompt's z into the clean run,
``denoising`` the clean z into the corrupted run, ``zero`` sets z to 0 in the clean run, ``mean`` sets it there to the mean
over the clean prompts at the same position."""


@dataclass(frozen=True)
class TokenPair:
    """A clean and a corrupted prompt as token ids of equal length, the answer to the clean one, a wrong answer, and the
    named positions (0 is the first token); the answer follows the last token."""

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    answer: int
    wrong: int
    positions: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class HandMade:
    """A hand-made model and the truth about it.

    Attributes:
        name, description: what it is called (``handmade-induction``) and what it computes.
        vocabulary: the word of each token id; the first is the start of the prompt.
        model: its weights in float32, evaluation mode.
        circuit: the nodes that take part and what flows between them, with roles.
        make_pairs: (n, seed, corruption) -> prompt pairs.
        corruptions: name of a corruption -> what it changes; the first is the default.
        truths: (corruption, one of ``KINDS``) -> the heads whose single removal changes the logit difference
            (answer - wrong) by more than ``negligible``. What is true depends on both: a head that carries the same in
            both prompts is no part of what tells them apart, and a head with a backup is not missed when it is zeroed.
        negligible: largest change (in logits) that any other head makes.
        heads: names of the heads worth naming, those of the circuit and the decoys.
    """

    name: str
    description: str
    vocabulary: tuple[str, ...]
    model: PlainForCausalLM
    circuit: Circuit
    make_pairs: Callable[[int, int, str], list[TokenPair]]
    corruptions: Mapping[str, str]
    truths: Mapping[tuple[str, str], frozenset[Head]]
    negligible: float = 1e-4
    heads: Mapping[str, Head] = field(default_factory=dict)

    @property
    def true_heads(self) -> frozenset[Head]:
        """Every head of the circuit."""
        return frozenset(self.circuit.heads())

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A tokenizer whose tokens are the words of the vocabulary, set apart by spaces; it prepends the first token."""
        return word_tokenizer(self.vocabulary)

    def pairs(self, n: int, seed: int = 0, corruption: str | None = None) -> list[TokenPair]:
        """``n`` prompt pairs, the same for the same seed. Raises ``InterpError`` for an unknown corruption or n < 1."""
        corruption = next(iter(self.corruptions)) if corruption is None else corruption
        if corruption not in self.corruptions:
            raise unknown("corruption", corruption, list(self.corruptions))
        if n < 1:
            raise InterpError(f"make {n} prompts of {self.name}", "there must be at least one", "ask for n >= 1")
        return self.make_pairs(n, seed, corruption)

    def words(self, ids: Sequence[int]) -> str:
        """The prompt as text."""
        return " ".join(self.vocabulary[i] for i in ids)


def word_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are these words, set apart by spaces; it prepends ``<bos>``."""
    ids = {word: index for index, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=BOS))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, pad_token=BOS)


def circuit(name: str, heads: Mapping[str, Head], flows: str, *, mlp: str | None = None) -> Circuit:
    """A circuit from roles: ``heads`` is role -> head, ``mlp`` the role of the MLP of layer 0.

    ``flows`` lists edges of roles, one a line, as ``source -> target.input`` with the target ``logits`` or a role.
    """
    nodes = {role: Node.of(head) for role, head in heads.items()}
    roles = {node: role for role, node in nodes.items()}
    if mlp is not None:
        nodes[mlp] = Node("mlp", layer=0)
        roles[nodes[mlp]] = mlp
    nodes |= {"embed": Node("embed"), "logits": Node("logits")}
    edges = []
    for line in flows.strip().splitlines():
        source, _, target = (part.strip() for part in line.partition("->"))
        role, _, reads = target.partition(".")
        edges.append(Edge(nodes[source], nodes[role], reads))
    return Circuit(edges=tuple(edges), roles=roles, name=name, model=name, task=name,
                   citation="written by hand: the weights are the circuit")
