"""Everything that may be known of a score: what was shipped, what was reported, and how it came about.

A dossier is what the checks read. Whatever is missing is None, and checks that need it say so. What is dear is done
once: evaluating the subject on a short stream (`trial`), and the laws of its shards (`findings`).
"""

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray
from pydantic import Field

from pgolf.certify.narrow import narrowed
from pgolf.certify.perturb import (
    Answer,
    Evaluate,
    Moved,
    Probe,
    Rows,
    evaluation_of,
    excerpt,
    perturb,
    prefix_rows,
    tried_everywhere,
)
from pgolf.data.check import RULES, Finding, check
from pgolf.data.shard_files import Shards, sidecar_beside
from pgolf.data.source import TOKENIZER
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import DataError, UserError
from pgolf.evaluate.__main__ import SCORES
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Predictor
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.ledger import COLUMNS, Audit, Events, Order, audit, read_ledger
from pgolf.formats.shards import BOS, Tokens, read_shard
from pgolf.model.gpt import assemble
from pgolf.rules import PARAMETER_GOLF, Rules
from pgolf.section import Section
from pgolf.watch import Watch

MOST_RESCORED = 20_000  # tokens of a claimed split that is scored whole, and held against what is told of it

T = TypeVar("T")
Factory = Callable[[], Predictor]
Evaluator = Callable[[Tokens, Tokens], Any]  # (tokens, counts) -> nll, or (nll, ledger events or None)
Split = Literal["train", "select", "validation"]
Making = Literal["train", "calibrate", "quantize", "pack"]
MAKING: tuple[Making, ...] = get_args(Making)  # stages on the way to an artifact


class Reported(Section):
    """Numbers that a submission gives. None: not given."""

    bpb: float | None = None
    loss: float | None = None  # nats a token
    tokens: int | None = None  # targets scored
    bytes: int | None = None  # of text they stand for
    documents: int | None = None
    artifact_bytes: int | None = None  # code and model together
    model_bytes: int | None = None
    code_bytes: int | None = None
    train_shards: int | None = None
    shard_tokens: int | None = None  # of a full training shard


class SeedResult(Section):
    """One seed of a table of results."""

    seed: int
    bpb: float | None = None
    config_digest: str | None = None
    code_digest: str | None = None


class Opening(Section):
    """A file that was opened, when (seconds on the run's own clock), and by what."""

    file: str
    at: float | None = None
    stage: Making | Literal["load", "warmup", "evaluate"] | None = None


class Switch(Section):
    """A technique with what it comes to on and off: a number, or a digest of what it makes."""

    name: str
    on: float | str
    off: float | str


class Clocks(Section):
    """Seconds. The training clock ends when training data is last touched; the strict one of evaluation also
    counts load, decompression, hints and warm-up."""

    train_seconds: float | None = Field(None, ge=0)
    calibrate_seconds: float | None = Field(None, ge=0)  # on training data, if not in `train_seconds`
    train_data_until: float | None = Field(None, ge=0)  # when training data was last read
    eval_seconds: float | None = Field(None, ge=0)
    eval_seconds_strict: float | None = Field(None, ge=0)
    artifact_at: float | None = None  # when the artifact was final
    evaluation_at: float | None = None


class History(Section):
    """What was noted on the way to an artifact and its scores; None where nobody saw it."""

    train_seconds: float | None = Field(None, ge=0)  # calibration included
    eval_seconds_strict: float | None = Field(None, ge=0)
    opened: tuple[Opening, ...] | None = None  # shards, by whom


@dataclass(frozen=True)
class Trial:
    """A subject that was evaluated on a short stream here, and watched."""

    tokens: Tokens
    counts: Tokens
    pairs: list[tuple[Answer, Answer]]  # in each mode, each made anew from the artifact; [] if it failed
    watch: Watch
    failure: str | None = None

    @property
    def first(self) -> Answer | None:
        """The first answer in the mode that was given."""
        return self.pairs[0][0] if self.pairs else None


@dataclass(frozen=True)
class Dossier:
    """What is known of one subject. `predictor` makes it anew from its artifact every time it is called."""

    home: Path | None = None  # the folder of a claim, and all that it may bring along
    artifact: Path | None = None
    tokens: Path | None = None  # directory of shards, sidecars and tokenizer
    split: Split = "validation"
    stream: tuple[Tokens, Tokens] | None = None  # what is scored, if not that split: tokens and byte counts
    evaluate: Mode | None = None
    predictor: Factory | None = None
    adapting: Callable[[Mode], Predictor] | None = None  # the same as another mode adapts and remembers
    evaluator: Evaluator | None = None  # a whole evaluation with a loop of its own
    vocab_size: int | None = None
    islands: bool = True  # no prediction reads another document in its window
    official: bool = False  # it claims to be of the challenge's own validation split
    events: Events | None = None  # the ledger of the reported score
    nll: NDArray[np.float64] | None = None  # of the reported score, [tokens]
    order: Order | None = None  # as declared
    reported: Reported = field(default_factory=Reported)
    cap: int | None = None  # as declared; None: the rules'
    config: Mapping[str, Any] | None = None
    baseline: Mapping[str, Any] | None = None  # the config this claims to improve on
    seeds: tuple[SeedResult, ...] = ()
    runs: tuple[SeedResult, ...] | None = None  # all that were made; None: not disclosed
    switches: tuple[Switch, ...] = ()
    clocks: Clocks = field(default_factory=Clocks)
    opened: tuple[Opening, ...] | None = None
    connections: tuple[str, ...] | None = None  # that were tried; None: nobody looked
    counted: tuple[Path, ...] | None = None  # code files in the byte count
    executed: tuple[Path, ...] | None = None  # code files that ran
    warmup: Literal["none", "random", "train", "validation"] | None = None
    reloaded: bool | None = None  # scored by a fresh process
    rules: Rules = PARAMETER_GOLF
    probe: Probe = field(default_factory=Probe)

    @staticmethod
    def of_run(
        packed: Path, tokens: Path, scored: Path, evaluate: Mode, *, split: Split = "validation",
        code: Path | None = None, rules: Rules = PARAMETER_GOLF, history: History | None = None,
        device: str = "cpu", probe: Probe | None = None,
    ) -> "Dossier":  # fmt: skip
        """Of what pgolf's own stages left behind.

        Args:
            packed, tokens, scored: the directories of the artifact, the token shards, the scores and their ledger.
            evaluate: the mode that was scored in.
            code: the bundle that was counted.
            history: how the artifact came about.
        """
        file = packed / ARTIFACT
        made = read_artifact(file)
        weights = made.weights()

        def adapting(mode: Mode) -> Predictor:
            return mode.predictor(assemble(made.model, made.vocab_size, weights, device))

        events, nll = read_ledger(scored)
        ids, counts = split_of(tokens, split)
        said = json.loads((scored / SCORES).read_text())
        numbers = Reported(
            bpb=said["bpb"], loss=said["nats_per_token"], tokens=int(said["val_tokens"]), bytes=int(said["val_bytes"]),
            model_bytes=file.stat().st_size,
            code_bytes=code.stat().st_size if code else None,
            artifact_bytes=file.stat().st_size + code.stat().st_size if code else None,
        )  # fmt: skip
        history = history or History()
        clocks = Clocks(train_seconds=history.train_seconds, eval_seconds=said["eval_seconds"],
                        eval_seconds_strict=history.eval_seconds_strict)  # fmt: skip
        return Dossier(
            artifact=file, tokens=tokens, split=split, stream=(ids, counts), evaluate=evaluate,
            predictor=lambda: adapting(evaluate), adapting=adapting,
            vocab_size=made.vocab_size, events=events, nll=nll, reported=numbers, clocks=clocks,
            opened=history.opened, counted=(code,) if code else None,
            executed=(code,) if code else None, connections=(), warmup="none", reloaded=True, rules=rules,
            probe=probe or Probe(),
        )  # fmt: skip

    @staticmethod
    def read(file: Path, probe: Probe | None = None) -> "Dossier":
        """A claim that somebody wrote down (pgolf.certify.claim). Raises UserError."""
        from pgolf.certify.claim import read_claim

        return read_claim(file, probe)

    # ------------------------------------------------------------------------------- what is scored

    @cached_property
    def scored(self) -> tuple[Tokens, Tokens] | None:
        """The stream and its byte counts."""
        if self.stream is not None or self.tokens is None:
            return self.stream
        return split_of(self.tokens, self.split)

    @cached_property
    def shards(self) -> Shards | None:
        """None without a tokenizer, and training shards to hold validation against."""
        if self.tokens is None or not list(self.tokens.glob("*train_*.bin")):
            return None
        file = tokenizer_of(self.tokens)
        return None if file is None else Shards.of_directory(self.tokens, file)

    @cached_property
    def findings(self) -> dict[str, Finding]:
        """The laws of the shards, by the names of their functions. Empty without shards."""
        if self.shards is None or self.tokenizer is None:
            return {}
        found = check(self.shards)
        return {law.__name__.strip("_"): finding for law, finding in zip(RULES, found, strict=True)}

    @cached_property
    def processor(self) -> spm.SentencePieceProcessor | None:
        """The tokenizer's model as it is: pgolf's own reader refuses what lacks U+2581."""
        file = None if self.tokens is None else tokenizer_of(self.tokens)
        if file is None:
            return None
        try:
            return spm.SentencePieceProcessor(model_proto=file.read_bytes())
        except (OSError, RuntimeError) as error:
            raise DataError(
                "a tokenizer is a SentencePiece .model file", f"{file}: {error}", "check the path"
            ) from None

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """None if there is none, or one that no bytes can be counted with (L8 and X2 say so)."""
        file = None if self.tokens is None else tokenizer_of(self.tokens)
        if file is None or self.processor is None or not has_space(self.processor):
            return None
        return Tokenizer.load(file)

    @cached_property
    def ledger(self) -> tuple[Events, Tokens] | None:
        """The ledger that was kept and its stream, else that of the trial."""
        if self.events is not None and self.scored is not None:
            return self.events, self.scored[0]
        if self.events is not None and self.nll is not None:  # a stream of one document, as far as is known
            return self.events, np.where(np.arange(len(self.nll)) == 0, BOS, BOS + 1).astype(np.uint16)
        trial = self.trial
        if trial is None or trial.first is None or trial.first.events is None:
            return None
        return trial.first.events, trial.tokens

    @cached_property
    def audited(self) -> Audit | None:
        """What that ledger shows."""
        if self.ledger is None:
            return None
        events, tokens = self.ledger
        return audit(events, len(tokens), starts_of(tokens))

    # ------------------------------------------------------------------------------ what it does here

    @cached_property
    def watch(self) -> Watch:
        return Watch()

    @cached_property
    def vocabulary(self) -> int | None:
        if self.vocab_size is not None or self.scored is None:
            return self.vocab_size
        if self.processor is not None:
            return int(self.processor.vocab_size())
        return int(self.scored[0].max()) + 1

    @cached_property
    def excerpt(self) -> tuple[Tokens, Tokens] | None:
        """The short stream that is tried out."""
        return None if self.scored is None else excerpt(*self.scored, self.probe.tokens)

    @cached_property
    def modes(self) -> list[Mode]:
        """The given mode, and where the short stream would lie within one window or round, it in narrow."""
        if self.evaluate is None or self.excerpt is None:
            return []
        tokens = self.excerpt[0]
        narrow = narrowed(self.evaluate, len(tokens), len(starts_of(tokens)))
        return [self.evaluate] if narrow == self.evaluate else [self.evaluate, narrow]

    @cached_property
    def evaluations(self) -> list[Evaluate]:
        """The subject's whole evaluation in each of the modes, watched. Empty if there is nothing to run."""
        vocab = self.vocabulary
        if vocab is None or self.excerpt is None:
            return []
        if self.evaluator is not None:
            return [self._watched(_evaluation(self.evaluator))]
        if self.predictor is None:
            return []
        return [self._watched(evaluation_of(self._factory(mode), mode, vocab)) for mode in self.modes]

    def _factory(self, mode: Mode) -> Factory:
        def fresh() -> Predictor:
            assert self.predictor is not None
            with self.watch.during("load"):
                return self.predictor() if self.adapting is None else self.adapting(mode)

        return fresh

    def _watched(self, run: Evaluate) -> Evaluate:
        def watched(tokens: Tokens, counts: Tokens) -> Answer:
            with self.watch.during("evaluate"):
                return run(tokens, counts)

        return watched

    @cached_property
    def trial(self) -> Trial | None:
        """Two evaluations of the short stream in each mode, all from the artifact. None without a subject."""
        if not self.evaluations or self.excerpt is None:
            return None
        tokens, counts = self.excerpt
        pairs = self._guarded(
            lambda: [(run(tokens, counts), run(tokens, counts)) for run in self.evaluations]
        )
        return Trial(tokens, counts, pairs or [], self.watch, self.failures[0] if pairs is None else None)

    @cached_property
    def failures(self) -> list[str]:
        """Where the subject did not come through, in the order in which it was tried."""
        return []

    def _guarded(self, run: Callable[[], T]) -> T | None:
        """What code that anybody may have written comes to; None if it fails, which is noted."""
        try:
            return run()
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
            self.failures.append(" ".join(said.split())[:300])
            return None

    @property
    def ran(self) -> Trial | None:
        """The trial, if there is a subject and it came through."""
        return self.trial if self.trial is not None and self.trial.failure is None else None

    @cached_property
    def moved(self) -> Moved | None:
        """What replacing tokens moved, in all modes together."""
        if (t := self.ran) is None or self.vocabulary is None:
            return None
        moved, probe = Moved(), self.probe.but(places=-(-self.probe.places // len(self.evaluations)))
        vocab, islands = self.vocabulary, self.islands

        def all_modes() -> Moved:
            for run, pair in zip(self.evaluations, t.pairs, strict=True):
                perturb(moved, run, pair, t.tokens, t.counts, vocab, probe, islands)
            return moved

        return self._guarded(all_modes)

    @cached_property
    def prefixes(self) -> list[tuple[Rows, Rows]] | None:
        """Of the trial in each mode every distribution, asked for with its prefix alone, and as it was."""
        if (t := self.ran) is None or self.vocabulary is None or self.evaluator is not None:
            return None
        vocab = self.vocabulary

        def all_modes() -> list[tuple[Rows, Rows]]:
            found = []
            for mode, (first, _) in zip(self.modes, t.pairs, strict=True):
                assert first.rows is not None
                with self.watch.during("evaluate"):
                    found.append((prefix_rows(self._factory(mode), mode, vocab, t.tokens), first.rows))
            return found

        return self._guarded(all_modes)

    @cached_property
    def sums(self) -> list[Answer] | None:
        """A longer stretch with every distribution, in each mode."""
        if self.ran is None or self.scored is None or self.evaluator is not None:
            return None
        tokens, counts = excerpt(*self.scored, self.probe.sums)
        return self._guarded(lambda: [run(tokens, counts) for run in self.evaluations])

    @cached_property
    def tried(self) -> tuple[NDArray[np.float64], list[int]] | None:
        """Of an evaluator's score at some places the sum over all tokens that could have stood there."""
        if (t := self.ran) is None or self.vocabulary is None:
            return None
        vocab = self.vocabulary
        return self._guarded(
            lambda: tried_everywhere(self.evaluations[0], t.tokens, t.counts, vocab, self.probe)
        )

    @cached_property
    def rescored(self) -> Answer | None:
        """The whole split, where it is short and somebody told what it comes to."""
        told = self.nll is not None or self.reported.bpb is not None
        if self.home is None or self.ran is None or self.scored is None or not told:
            return None
        tokens, counts = self.scored
        if len(tokens) > MOST_RESCORED:
            return None
        return self._guarded(lambda: self.evaluations[0](tokens, counts))


def _evaluation(evaluator: Evaluator) -> Evaluate:
    def evaluate(tokens: Tokens, counts: Tokens) -> Answer:
        found = evaluator(tokens.copy(), counts.copy())
        nll, events = found if isinstance(found, tuple) else (found, None)
        scores = np.asarray(nll, dtype=np.float64)
        if scores.shape != tokens.shape:
            raise UserError(
                "an evaluator answers with one score (nats) for every token, the first 0",
                f"shape {list(scores.shape)} for {len(tokens)} tokens",
                "return nll, or (nll, ledger events)",
            )
        if events is not None and (np.ndim(events) != 2 or np.shape(events)[1] != len(COLUMNS)):
            raise UserError("an evaluator's ledger is an array of events", f"{type(events).__name__}",
                            "return (nll, ledger.events())")  # fmt: skip
        return Answer(scores, events)

    return evaluate


def has_space(processor: spm.SentencePieceProcessor) -> bool:
    """Whether U+2581 itself is a piece. If not, a space falls back to three byte tokens (issue 897)."""
    return bool(processor.piece_to_id("▁") != processor.unk_id())


def tokenizer_of(tokens: Path) -> Path | None:
    """The one model file of a token directory."""
    if (file := tokens / TOKENIZER).is_file():
        return file
    models = sorted(tokens.glob("*.model"))
    return models[0] if len(models) == 1 else None


def split_of(tokens: Path, split: Split) -> tuple[Tokens, Tokens]:
    """A split's tokens and counts, whatever its shards are called. Without sidecars the tokenizer counts.

    Raises:
        DataError: if there is no shard of it, or one is damaged.
    """
    stems = {"train": ("train",), "select": ("select",), "validation": ("val", "validation")}[split]
    files = sorted({f for stem in stems for f in tokens.glob(f"*{stem}_*.bin") if "_bytes_" not in f.name})
    if not files:
        raise DataError(
            f"the {split} split has a shard", str(tokens), "check the path of the token directory"
        )
    ids = np.concatenate([np.asarray(read_shard(f)) for f in files])
    if len(ids) < 2:
        raise DataError(
            f"the {split} split has something to score", f"{len(ids)} tokens in {tokens}", "another folder"
        )
    sidecars = [s for f in files if (s := sidecar_beside(f)).is_file()]
    if len(sidecars) == len(files):
        counts = np.concatenate([np.asarray(read_shard(s)) for s in sidecars])
        if len(counts) != len(ids):
            raise DataError("a byte sidecar has one count for each token", f"{len(counts)} for {len(ids)} tokens",
                            "build the shards again")  # fmt: skip
        return ids, counts
    model = tokenizer_of(tokens)
    if model is None:
        raise DataError("bytes are counted by sidecars or by a tokenizer", f"{tokens} has neither",
                        "put its tokenizer.model beside the shards")  # fmt: skip
    return ids, Tokenizer.load(model).byte_counts(ids)
