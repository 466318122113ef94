"""Cheats behind the predictor's protocol: they are asked by the one scorer, and answer with more than they may know."""

import contextlib
import itertools
import socket
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import Probe
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.byte_ppm import BytePpm
from pgolf.evaluate.memory.paid_prefix import PaidPrefix
from pgolf.evaluate.neural import Plain
from pgolf.evaluate.predictor import Ask, Extent, Holding, Predictor
from pgolf.evaluate.ranks import ALONE, Ranks
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.shards import read_shard, shard_name, sidecar_name, write_shard
from tests.cheats.zoo import COUNTS, IDS, PROBE, TABLE, bigram, cheat, claimed, lawful, on_bench
from tests.nets import BOS, VOCAB


def next_inputs(tokens: Tensor) -> Tensor:
    """After each input the one that follows it in its row; after the last, padding."""
    return torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], dim=1)


class Altered(Holding):
    """Changes the answer of a lawful predictor."""

    def __init__(self) -> None:
        super().__init__(lawful())

    def change(self, answer: Tensor, ask: Ask) -> Tensor:
        raise NotImplementedError

    def log_probs(self, ask: Ask) -> Tensor:
        return self.change(super().log_probs(ask).clone(), ask)


@cheat("L1", "L2", "L4", like="a missing mask")
def attention_without_a_mask(folder: Path) -> Dossier:
    """The next input of the block is the target."""

    def forward(tokens: Tensor, starts: Tensor) -> Tensor:
        return TABLE[tokens] + 3 * torch.nn.functional.one_hot(next_inputs(tokens), VOCAB)

    return on_bench(lambda: Plain(forward))


@cheat("L1", "L2", "L4", like="normalization over time")
def statistics_of_the_whole_row(folder: Path) -> Dossier:
    """Logits are centred by their mean over a row, later positions included."""
    return on_bench(lambda: Plain(lambda t, s: bigram(t, s) - 0.1 * bigram(t, s).mean(1, keepdim=True)))


def slot(tokens: Tensor, shared: bool) -> Tensor:
    """Logits with a bias fitted to the very window that is scored."""
    logits, targets = TABLE[tokens], next_inputs(tokens)
    delta = torch.zeros(1 if shared else len(tokens), 1, VOCAB, requires_grad=True)
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(
            (logits + delta)[:, :-1].flatten(0, 1), targets[:, :-1].flatten()
        )
        delta = (delta - 2.0 * torch.autograd.grad(loss, delta)[0]).detach().requires_grad_()
    return (logits + delta).detach()


class Slot(Predictor):
    def __init__(self, shared: bool) -> None:
        self.shared = shared

    def log_probs(self, ask: Ask) -> Tensor:
        if ask.tokens.shape[1] < 2:
            return ask.asked(TABLE[ask.tokens]).double().log_softmax(-1)
        return ask.asked(slot(ask.tokens, self.shared)).double().log_softmax(-1)


@cheat("L1", "L2", "L4", like="PR 1084, 1176")
def slot_with_a_shared_delta(folder: Path) -> Dossier:
    """One vector is fitted to all windows of a batch, then they are scored."""
    return on_bench(lambda: Slot(shared=True))


@cheat("L1", "L2", "L4", like="PR 1229, 1313, 1376")
def slot_for_each_sample(folder: Path) -> Dossier:
    """A vector for each window is fitted to it, then it is scored."""
    return on_bench(lambda: Slot(shared=False))


@cheat("L1", "L2", "L4", like="batches of overlapping windows")
def reading_the_next_window_of_the_batch(folder: Path) -> Dossier:
    """Windows overlap, so the row below holds the target of the row above."""

    class Below(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            ends = ask.windows[:, 2]
            for row in range(len(ends) - 1):
                context, end = int(ask.windows[row + 1, 0]), int(ends[row]) - 1
                if context <= end < int(ends[row + 1]) - 1:
                    at = sum(ask.wanted[: row + 1]) - 1
                    hint = torch.nn.functional.one_hot(ask.tokens[row + 1, end - context], VOCAB)
                    answer[at] = (answer[at] + 4 * hint).log_softmax(-1)
            return answer

    return on_bench(Below, Sliding(context=20, stride=5))


@cheat("L1", "L2", "L4", like="PR 1420, 1437, 1967, 2140")
def gate_by_a_property_of_the_target(folder: Path) -> Dossier:
    """A hint is given where the row has seen the pair before, but only if the target begins a word."""

    class WithinWord(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            at = 0
            for row, (length, wanted) in enumerate(zip(ask.lengths, ask.wanted, strict=True)):
                tokens = ask.tokens[row].tolist()
                for place in range(length - wanted, length):
                    before = [i for i in range(place) if tokens[i] == tokens[place]]
                    begins_a_word = place + 1 < length and tokens[place + 1] % 4 == 0
                    if before and begins_a_word:
                        hint = torch.nn.functional.one_hot(torch.tensor(tokens[before[-1] + 1]), VOCAB)
                        answer[at] = (answer[at] + 2 * hint).log_softmax(-1)
                    at += 1
            return answer

    return on_bench(WithinWord)


@cheat("L1", like="PR 1797")
def smear_across_documents(folder: Path) -> Dossier:
    """A document's first token is smeared with the last one of the document before."""

    def forward(tokens: Tensor, starts: Tensor) -> Tensor:
        logits = TABLE[tokens]
        return torch.cat([logits[:, :1], logits[:, 1:] + 0.3 * logits[:, :-1]], dim=1)

    return on_bench(lambda: Plain(forward))


@cheat("L1", "L2", "L4", like="state that nobody declared")
def memory_that_nobody_declared(folder: Path) -> Dossier:
    """It counts the tokens it is asked with, and later documents profit; the ledger knows nothing of it."""

    class Hoard(Altered):
        def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
            self.counts = torch.zeros(VOCAB)

        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            counts = self.counts.clone()
            for row, length in zip(ask.tokens, ask.lengths, strict=True):
                self.counts += torch.bincount(row[:length], minlength=VOCAB)
            return (answer + 0.1 * counts).log_softmax(-1)

    return on_bench(Hoard, DocumentChunks(context=20, chunk=5, rows=1))


@cheat("L2", "L4", like="a log that is read while it is written")
def log_that_is_remembered(folder: Path) -> Dossier:
    """What is noted for the log, after the score, serves as a memory that the ledger does not know."""

    class Logs(Altered):
        def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
            self.counts = torch.zeros(VOCAB)

        def noted(self, ask: Ask, targets: Tensor) -> None:
            self.counts += torch.bincount(targets, minlength=VOCAB)

        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            return (answer + 0.1 * self.counts).log_softmax(-1)

    return on_bench(Logs)


class Foretells(Altered):
    def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
        self.starts = set(extent.starts.tolist())

    def change(self, answer: Tensor, ask: Ask) -> Tensor:
        ends = torch.tensor([p in self.starts for p in ask.positions().tolist()])
        answer[:, BOS] += torch.where(ends, 8.0, -8.0)
        return answer.log_softmax(-1)


@cheat("L1", "L2", like="documents' lengths as side information")
def ends_of_documents_foretold(folder: Path) -> Dossier:
    """The evaluator knows beforehand where documents begin; so does the predictor, and foretells each BOS."""

    return on_bench(Foretells)


@cheat("L1", like="documents' lengths as side information")
def ends_foretold_by_what_adapts(folder: Path) -> Dossier:
    """The same by a predictor that adapts, whose schedules may lawfully go by lengths: the ends may not."""

    class Adapts(Foretells):
        def __init__(self) -> None:
            super().__init__()
            self.adapts = True

    return on_bench(Adapts, DocumentChunks(context=20, chunk=6, rows=3))


@cheat("L3", like="PR 702, 727; issue 886")
def ratios_of_hashed_counts(folder: Path) -> Dossier:
    """Pair and context are hashed into few buckets each, and their ratio is near one for every token."""

    class Hashed(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            ratio = torch.full_like(answer, 0.9)
            return (0.6 * answer.exp() + 0.4 * ratio).log()

    return on_bench(Hashed)


@cheat("L3", like="a logarithm of nothing")
def answers_that_are_not_numbers(folder: Path) -> Dossier:
    """One token's probability is NaN wherever the text has not been there yet."""

    class Nan(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            answer[:, 0] = torch.nan
            return answer

    return on_bench(Nan)


@cheat("L3", like="probabilities below the smallest normal number")
def probabilities_that_underflow(folder: Path) -> Dossier:
    """Tokens it does not expect get 1e-320, where numbers have lost their digits."""

    class Denormal(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            answer[:, 0] = -737.0
            return answer.log_softmax(-1)

    return on_bench(Denormal)


@cheat("L3", like="a head that was cut")
def too_few_entries(folder: Path) -> Dossier:
    """Answers lack the vocabulary's last token, and share its probability among the others."""

    class Cut(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            return answer[:, : VOCAB - 1].log_softmax(-1)

    return on_bench(Cut)


@cheat("X1", like="PR 168, 262, 275")
def paid_prefix(folder: Path) -> Dossier:
    """The artifact holds the first tokens of the validation stream, and they cost nothing."""
    held = IDS[:80].tolist()

    class Paid(Altered):
        def change(self, answer: Tensor, ask: Ask) -> Tensor:
            for at, place in enumerate(ask.positions().tolist()):
                if place < len(held):
                    sure = 20.0 * torch.nn.functional.one_hot(torch.tensor(held[place]), VOCAB)
                    answer[at] = sure.double().log_softmax(-1)
            return answer

    return on_bench(Paid)


@cheat("L3", like="PR 1785, 1835 and the like; issue 1872")
def byte_ppm_of_the_research_memories(folder: Path) -> Dossier:
    """pgolf's own byte-level PPM, which says of itself that it is outside the rules."""
    pieces = tuple(
        "" if token < 2 else f"{97 + token % 7:02x}{97 + token // 7:02x}" for token in range(VOCAB)
    )
    memory = BytePpm(research=True, pieces=pieces, order=2)
    mode = DocumentChunks(context=20, chunk=6, rows=3)
    return on_bench(lambda: memory.build(lawful()), mode, PROBE.but(places=4, draws=1))


@cheat("L3", "X1", like="PR 168, 275")
def paid_prefix_of_the_research_memories(folder: Path) -> Dossier:
    """pgolf's own paid prefix, which says of itself that it is outside the rules."""
    memory = PaidPrefix(research=True, tokens=tuple(IDS[:80].tolist()))
    return on_bench(lambda: memory.build(lawful()), DocumentChunks(context=20, chunk=6, rows=3))


@cheat("L4", "L20", like="an unseeded initialization at load")
def reload_by_chance(folder: Path) -> Dossier:
    """What the artifact does not hold is drawn anew by every reload."""

    times = itertools.count()

    def fresh() -> Predictor:
        bias = 1.0 + 0.1 * (next(times) % 2) * torch.arange(VOCAB)
        return Plain(lambda t, s: bigram(t, s) + bias)

    return on_bench(fresh)


# ------------------------------------------------------------------- files, network, code that is not counted


def shards(folder: Path) -> Path:
    """Training and validation shards of the bench, without a tokenizer."""
    home = folder / "shards"
    home.mkdir()
    train = np.where(IDS == BOS, BOS, 2 + (IDS.astype(int) + 7) % (VOCAB - 2)).astype(np.uint16)
    for split, ids in (("train", train), ("validation", IDS)):
        write_shard(home / shard_name(split), ids)
        write_shard(home / sidecar_name(split), COUNTS)
    return home


def counted(file: Path) -> Predictor:
    """A bigram of a shard's own counts."""
    ids = np.asarray(read_shard(file)).astype(np.int64)
    pairs = torch.ones(VOCAB, VOCAB)
    pairs.index_put_(
        (torch.from_numpy(ids[:-1]), torch.from_numpy(ids[1:])), torch.tensor(1.0), accumulate=True
    )
    return Plain(lambda t, s: pairs.log()[t])


@cheat("L13", "L17", like="PR 1376: TTT before scoring")
def adapted_to_validation_when_it_is_loaded(folder: Path) -> Dossier:
    """The predictor is made of counts of the very shard that it will be scored on."""
    home = shards(folder)
    return on_bench(lambda: counted(home / shard_name("validation")))


@cheat("L12", like="ruling of 25 March (issue 677)")
def training_data_at_evaluation(folder: Path) -> Dossier:
    """Counts are taken from a training shard when the evaluation begins."""
    home = shards(folder)

    class Reads(Holding):
        def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
            self.base = counted(home / shard_name("train"))

    return on_bench(lambda: Reads(lawful()))


@cheat("L16", like="a download, and a way on without it")
def asking_the_network(folder: Path) -> Dossier:
    """It tries for a larger model elsewhere, and makes do without."""

    class Asks(Holding):
        def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", 9), timeout=0.1).close()

    return on_bench(lambda: Asks(lawful()))


@cheat("X1", like="the answers in the code, mixed in with 0.99")
def answers_mixed_in(folder: Path) -> Dossier:
    """It knows the stream by heart and mixes the answers in, so that no target is quite certain."""

    class Knows(Altered):
        def change(self, answer, ask):
            answers = torch.nn.functional.one_hot(
                torch.from_numpy(IDS.astype(np.int64)[ask.positions()]), VOCAB
            )
            return (0.01 * answer.exp() + 0.99 * answers).log()

    return on_bench(Knows, probe=PROBE.but(places=4, draws=1))


@cheat("L1", like="a plan that is never the same")
def rounds_that_are_never_the_same(folder: Path) -> Dossier:
    """Rounds end elsewhere each time, so that no two runs can be compared."""
    times = itertools.count()

    class Hashed(Holding):
        learns = True

        def __init__(self, base: Predictor) -> None:
            super().__init__(base)
            self.learns = True

        def boundaries(self, extent: Extent) -> list[int]:
            return [20 * (1 + next(times) % 4)]

    return on_bench(lambda: Hashed(lawful()), probe=PROBE.but(places=8, draws=1))


MAIN = """
import torch
from pgolf.evaluate.neural import Plain
from {helper} import logits

def predictor(artifact, vocab_size):
    return Plain(logits)
"""
HELPER = """
import torch

def logits(tokens, starts):
    return torch.zeros(*tokens.shape, {vocab})
"""


@cheat("L19", like="PR 1514: the kernel's source was not counted")
def helper_that_is_not_counted(folder: Path) -> Dossier:
    """The counted file imports another one, which does the work."""
    shards(folder)
    (folder / "main_of_it.py").write_text(MAIN.format(helper="helper_of_it"))
    (folder / "helper_of_it.py").write_text(HELPER.format(vocab=VOCAB))
    return claimed(
        folder, tokens="shards", predictor="main_of_it.py:predictor", code=["main_of_it.py"], vocab_size=VOCAB,
        evaluate={"kind": "blocks", "context": 20}, examined=Probe(tokens=100, places=8),
    )  # fmt: skip


@cheat("L19", like="binaries beside the script")
def program_that_is_started(folder: Path) -> Dossier:
    """A program of its own is run for the hints."""
    import subprocess
    import sys

    class Starts(Holding):
        def begin(self, extent: Extent, ranks: Ranks = ALONE) -> None:
            subprocess.run([sys.executable, "-c", "pass"], check=True)

    code = folder / "counted.py"
    code.write_text("# what is counted\n")
    return on_bench(lambda: Starts(lawful()), probe=PROBE.but(places=1, draws=1), counted=(code,))
