"""Low-rank adapters that learn one document while it is scored, and are forgotten with it (PR 77, 1530, 1767).

    y = W x + (alpha / rank) B A x        A ~ U(+-1 / sqrt(in)), B = 0 at a document's first token

After a chunk of a document was scored, its adapters take a step on the mean cross-entropy of the chunk's targets.
The forward that gave the scores is kept for its gradient: one forward and one backward a chunk. Every execution
of a layer has adapters of its own, recurrences included. Many documents advance together, each with adapters of
its own in a row of one matrix, and a document's scores are what they are without the others: all begin with the
same A, whichever their number, their batch or their rank.

`targets` are the network's own matrices, q, k, v, o, up and down, and `head`, which adds B A h of the last hidden
state to the raw logits. The records' "o" and "mlp" adapters were other than that: branches beside attention and
MLP, which read the block's normalized input. Here there is one forward, the network's own, and its matrices are
adapted where they are.

`upper` leaves adapters to the last executions alone, 0 of them to the head alone, which then is the one target.
What lies below does not change while a document is scored, so `cache_lower` lets every position through it once
(pgolf.evaluate.past): exact in a document's first `context` positions; from there on positions are seen as they were
when they came, when their own context still was there.

`warm_a` keeps A from one document to the next in the same slot of a batch, with B and the optimizer begun anew:
documents then depend on one another, in the order of the batches (PR 1767).
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pgolf.errors import ConfigError
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.past import FactorsOf, Past, advanced
from pgolf.evaluate.predictor import Ask, Extent, Holding, Scored
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.ttt.row_optimizer import AdamW, Part, RowOptimizer
from pgolf.model.adapter import MATRICES, Factors
from pgolf.model.gpt import Gpt
from pgolf.section import RuleBroken, Section

Target = Literal["q", "k", "v", "o", "up", "down", "head"]
HEAD = "head"
SEED = 0  # of A


class DocumentLora(Section):
    needs_documents: ClassVar[bool] = True
    kind: Literal["document_lora"] = "document_lora"
    rank: int = Field(80, ge=1)
    alpha: float = Field(144.0, gt=0)
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = ("k", "o", "down", "head")
    lr: float = Field(1e-4, gt=0)
    local_lr_mult: float = Field(1.0, gt=0)  # of lr
    cosine: bool = False  # whether the rate falls to 0 over a document, by the targets it has
    grad_steps: int = Field(1, ge=1)  # steps on each chunk
    optimizer: RowOptimizer = AdamW()
    warm_a: bool = False
    upper: int | None = Field(None, ge=0)  # executions that have adapters, from the last one down; None: all
    cache_lower: bool = False

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """In one order, so that a set has one identity."""
        if len(set(targets)) < len(targets):
            raise RuleBroken("targets are a set", f"{targets}", "each name once")
        return tuple(sorted(targets, key=[*MATRICES, HEAD].index))

    @model_validator(mode="after")
    def _something_adapts(self) -> "DocumentLora":
        if self.upper == 0 and self.targets != (HEAD,):
            raise RuleBroken(
                "with upper=0 the head alone adapts", f"targets={self.targets}", "targets=[head], or upper=1"
            )
        if self.upper and self.targets == (HEAD,):
            raise RuleBroken(
                "upper counts executions that have adapters, and for the head alone none has",
                f"upper={self.upper}, targets={self.targets}", "upper=null, or a matrix among the targets",
            )  # fmt: skip
        if self.cache_lower and self.upper is None and self.targets != (HEAD,):
            raise RuleBroken(
                "cache_lower keeps what lies below the adapters", "upper=null: there are adapters everywhere",
                "upper=4, or targets=[head]",
            )  # fmt: skip
        return self

    @property
    def carries(self) -> bool:
        """Whether documents know of others: those that begin with another's A do."""
        return self.warm_a

    @property
    def by_lengths(self) -> list[str]:
        """Its settings that read where documents end before they are scored to there: rates fall to the end, and
        whose A a document begins with is the order of batches, longest ones first."""
        own = {"cosine": self.cosine, "warm_a": self.warm_a}
        return [name for name, reads in own.items() if reads]

    def must_fit(self, executions: int, blocks: int) -> None:
        """Raises ConfigError if a network of so many executions and stored blocks cannot be adapted so."""
        self.below(executions)

    def below(self, executions: int) -> int:
        """Executions without adapters. Raises ConfigError if there are not as many as `upper`."""
        upper = executions if self.upper is None else self.upper
        if upper > executions:
            raise ConfigError(
                "evaluate.ttt.upper counts the network's executions",
                f"upper={upper}",
                f"upper={executions} at most",
            )
        return executions if self.targets == (HEAD,) else executions - upper

    def build(self, base: Neural) -> "DocumentLoraPredictor":
        return DocumentLoraPredictor(self, base)


class AdapterSet:
    """Where a document's adapters lie in its row of numbers: all A, then all B."""

    def __init__(self, network: Gpt, section: DocumentLora) -> None:
        self.executions = len(network.order)
        self.below = section.below(self.executions)
        self.scale = section.alpha / section.rank
        self.places: list[tuple[int, str]] = []  # of each adapter: execution, matrix
        self.a: list[Part] = []
        self.b: list[Part] = []
        shapes = [
            (step, name, network.matrix(layer, name).shape)
            for step, layer in enumerate(network.order)
            if step >= self.below
            for name in section.targets
            if name != HEAD
        ]
        if HEAD in section.targets:
            shapes.append((self.executions, HEAD, torch.Size((network.vocab_size, network.config.width))))
        at = 0
        for step, name, (_, inputs) in shapes:
            self.places.append((step, name))
            self.a.append(Part(at, section.rank, inputs))
            at = self.a[-1].end
        self.a_weights = at
        for _, _, (outputs, _) in shapes:
            self.b.append(Part(at, outputs, section.rank))
            at = self.b[-1].end
        self.weights = at

    @property
    def parts(self) -> list[Part]:
        return self.a + self.b

    def initial(self) -> Float[Tensor, " weights"]:
        """A document's numbers at its beginning."""
        generator, row = torch.Generator().manual_seed(SEED), torch.zeros(1, self.weights)
        for part in self.a:
            bound = part.cols**-0.5
            part.of(row).uniform_(-bound, bound, generator=generator)
        return row[0]

    def adapters(self, leaves: Sequence[Tensor]) -> tuple[list[FactorsOf], Factors | None]:
        """Of every execution, and of the head."""
        found: list[dict[str, Factors]] = [{} for _ in range(self.executions + 1)]
        pairs = zip(self.places, leaves, leaves[len(self.a) :], strict=False)
        for (step, name), a, b in pairs:
            found[step][name] = Factors(a, b, self.scale)
        return [*found[:-1]], found[-1].get(HEAD)


class DocumentLoraPredictor(Holding):
    def __init__(self, section: DocumentLora, base: Neural) -> None:
        super().__init__(base)
        self.section, self.neural, self.network = section, base, base.network
        self.adapts = True
        self.carry = "slot" if section.warm_a else "document"
        self.network.requires_grad_(False)
        self.set = AdapterSet(self.network, section)
        self.initial = self.set.initial().to(self.network.device)

    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        super().begin(extent, ranks)
        self.extent, self.lengths = extent, extent.lengths
        self._forget()

    def learn(self, scored: Scored) -> None:
        super().learn(scored)
        self._forget()

    def _forget(self) -> None:
        """Nothing of any document is left."""
        self.values = self.initial.new_empty(0, self.set.weights)
        self.open(())

    def open(self, documents: Sequence[int]) -> None:
        super().open(documents)
        fresh = self.initial.repeat(len(documents), 1)
        if self.section.warm_a:
            fresh = torch.cat([self.values, fresh[len(self.values) :]])
            fresh[:, self.set.a_weights :] = 0
        self.values, self.documents, self.steps = fresh, documents, 0
        self.settled: list[Past] = []  # what lies below the adapters, of all that was observed
        self.grown: list[Past] = []  # of the block that is being asked for, position by position
        self.moments = [torch.zeros_like(fresh) for _ in range(self.section.optimizer.moments)]
        self.kept: tuple[Ask, list[Tensor], Tensor] | None = None  # the last block, if it may be observed

    def log_probs(self, ask: Ask) -> Float[Tensor, "targets vocab"]:
        self.kept = None
        leaves = self._leaves(ask)
        with torch.set_grad_enabled(not ask.growing and not all(ask.ends)):
            if ask.growing:
                logits = self._next_logits(ask, leaves)
            else:
                logits = self._logits(ask, leaves)
                self.grown = []
        if logits.requires_grad:
            self.kept = ask, leaves, logits
        return logits.detach().double().log_softmax(-1)

    def observe(self, ask: Ask, targets: Int[Tensor, " targets"]) -> None:
        super().observe(ask, targets)
        if all(ask.ends):
            return  # nobody is left who would need it
        assert self.kept is not None and self.kept[0] is ask, "what is observed was asked for whole, and last"
        _, leaves, logits = self.kept
        self.kept = None
        on = [row for row, ends in enumerate(ask.ends) if not ends]
        share = torch.tensor([1 / n for n in ask.wanted for _ in range(n)], device=logits.device)
        targets = targets.to(logits.device)
        for step in range(self.section.grad_steps):
            if step:
                leaves = self._leaves(ask)
                logits = self._logits(ask, leaves)
            loss = (share * F.cross_entropy(logits, targets, reduction="none")).sum()
            grads = torch.autograd.grad(loss, leaves)
            self._step(ask, on, torch.cat([g.flatten(1) for g in grads], dim=1))
        if self.section.cache_lower:
            self.settled = self.reached

    def _leaves(self, ask: Ask) -> list[Tensor]:
        """The rows' factors as what a gradient is taken for: all A, then all B."""
        values = self.values[_rows(ask.slots)]
        return [part.of(values).detach().requires_grad_() for part in self.set.parts]

    def _logits(self, ask: Ask, leaves: Sequence[Tensor]) -> Float[Tensor, "targets vocab"]:
        executions, head = self.set.adapters(leaves)
        if self.section.cache_lower:
            hidden, self.reached = self._advanced(self.settled, ask, self.set.below, executions)
        else:
            hidden = self.neural.hidden(ask, executions)
        return self._headed(ask, hidden, head)

    def _next_logits(self, ask: Ask, leaves: Sequence[Tensor]) -> Float[Tensor, "targets vocab"]:
        """Of a block that grows: the adapters stand still meanwhile, so known positions do too."""
        executions, head = self.set.adapters(leaves)
        until = self.set.below if self.section.cache_lower else len(executions)
        hidden, self.grown = self._advanced([*self.grown, *self.settled], ask, until, executions)
        return self._headed(ask, hidden, head)

    def _advanced(
        self, pasts: Sequence[Past], ask: Ask, until: int, executions: Sequence[FactorsOf]
    ) -> tuple[Float[Tensor, "targets d"], list[Past]]:
        origins = [int(self.extent.starts[self.documents[slot]]) for slot in ask.slots]
        return advanced(self.network, pasts, ask, origins, until, executions)

    def states(self) -> Float[Tensor, "targets d"]:
        return self.latest

    def _headed(
        self, ask: Ask, hidden: Float[Tensor, "targets d"], head: Factors | None
    ) -> Float[Tensor, "targets vocab"]:
        self.latest = hidden.detach()
        if head is None:
            return self.neural.logits(hidden)
        rows = pad_sequence(list(hidden.split(ask.wanted)), batch_first=True)
        added = torch.cat([row[:n] for row, n in zip(head(rows), ask.wanted, strict=True)])
        return self.neural.logits(hidden, added)

    @torch.no_grad()
    def _step(self, ask: Ask, on: Sequence[int], g: Float[Tensor, "rows weights"]) -> None:
        """The documents that go on learn; nothing is left of the others that anyone will ask for."""
        optimizer = self.section.optimizer
        self.steps += 1
        rows = _rows([ask.slots[row] for row in on])
        values, moments = self.values[rows], [m[rows] for m in self.moments]
        lr = self._rates(ask, on)
        u = optimizer.update(g[_rows(on)], moments, self.steps, self.set.parts)
        values *= 1 - lr * optimizer.weight_decay
        values -= lr * u
        if not isinstance(rows, slice):
            self.values[rows] = values
            for whole, part in zip(self.moments, moments, strict=True):
                whole[rows] = part

    def _rates(self, ask: Ask, on: Sequence[int]) -> Float[Tensor, "rows 1"]:
        lr = self.section.lr * self.section.local_lr_mult
        rates = torch.full((len(on), 1), lr)
        if self.section.cosine:
            for place, row in enumerate(on):
                document = self.documents[ask.slots[row]]
                seen = ask.windows[row, 1] - 1 - self.extent.starts[document]
                rates[place] *= 0.5 * (1 + math.cos(math.pi * seen / self.lengths[document]))
        return rates.to(self.values.device)


def _rows(numbers: Sequence[int]) -> slice | list[int]:
    """An index of rows: of the first ones without a copy."""
    return slice(len(numbers)) if list(numbers) == list(range(len(numbers))) else list(numbers)
