"""What the rate-distortion solver buys at equal bytes, on trained models: against clips, after adaptation, with LQER.

    python -m benchmarks.rate_distortion --store STORE [--models micro looped wide] [--bits 2.4 3.1 ...]

For every model and byte target each method is solved to the same size of the real artifact, reloaded, and compared
with the float model on the select split: the mean rise of the loss (nats a token, paired by sequence, with its
standard error) and the mean KL divergence. The methods:

    community     SDClip at the records' clips (13 attention, 11.5 MLP, int7 14 embedding), one multiplier
    tuned_clips   SDClip, one clip a type, tuned by coordinate descent on this very text, with both sides of the
                  tied table in its Hessian: no clips by type do better
    type_clips .. two_sided       the forms of the solver (pgolf.quantize.forms)
    + rate_aware  rounding that pays a quarter of a byte's price

Tables and pictures go to benchmarks/results/rate_distortion.{json,md,png}.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from benchmarks.models import MODELS, STORE
from pgolf.evaluate.stage import probe
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import Matrix, QuantizedMatrix, QuantizedModel
from pgolf.formats.shards import read_split
from pgolf.model.gpt import Gpt, assemble
from pgolf.model.roles import Role
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.calibrate import CALIBRATE, Calibrate, Fisher
from pgolf.quantize.forms import FisherGrid, FisherRows, Form, TensorClips, TwoSided, TypeClips
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.lqer import Lqer
from pgolf.quantize.problem import Matrices, Problem
from pgolf.quantize.rate_distortion import RateDistortion, land
from pgolf.quantize.sd_clip import SdClip
from pgolf.quantize.statistics import Statistics, predicted_loss
from pgolf.runtime import Runtime, provenance
from pgolf.stage import Store
from pgolf.train.stage import train_stage

RESULTS = Path(__file__).parent / "results"
BITS = (2.4, 2.75, 3.1, 3.45, 3.8, 4.2)  # a weight
SURVIVAL_BITS = 3.1
CONTEXT, ROWS = 256, 32
CHUNK = 8  # sequences scored, then learned from
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
COLOURS = ("#8a93a3", "#c0392b", "#d68910", "#76448a", "#2e86c1", "#117864", "#1f2430", "#af601a")
COMMUNITY = {Role.ATTENTION: 13 / 31, Role.MLP: 11.5 / 31, Role.EMBEDDING: 14 / 63}  # step over deviation
FORMS: dict[str, Form] = {
    f.kind: f for f in (TypeClips(), TensorClips(), FisherRows(), FisherGrid(), TwoSided())
}


@dataclass
class Bench:
    """A trained model, its statistics, and held-out text to compare it with itself on."""

    name: str
    trained: Checkpoint
    network: Gpt
    statistics: Statistics
    tokens: Tensor  # [sequences, CONTEXT + 1]
    reference: Tensor  # float log-probabilities of the float model [sequences, CONTEXT, vocab]

    @staticmethod
    def load(name: str, store: Store, sequences: int) -> "Bench":
        """From the store, or trained first (minutes)."""
        config, runtime = MODELS[name](), Runtime()
        tokens = config.data.build(store, runtime)[-1][1]
        stage = train_stage(int(tokens.metrics["vocab_size"]), partial(probe, evaluate=config.evaluate))
        sections = {"model": config.model, "optim": config.optim, "train": config.train}
        made = stage(store, tokens, runtime=runtime, seed=config.seed, **sections)
        section = Calibrate(tokens=131_072, context=CONTEXT, fisher=Fisher(tokens=65_536, full=True))
        known = CALIBRATE(store, made, tokens, runtime=runtime, seed=config.seed, calibrate=section)
        trained = Checkpoint.read(made.path)
        network = assemble(trained.model, trained.vocab_size, trained.weights, "cpu")
        ids, _ = read_split(tokens.path, "select")
        sequences = min(sequences, len(ids) // (CONTEXT + 1))
        text = torch.from_numpy(ids[: sequences * (CONTEXT + 1)].astype(np.int64)).view(sequences, -1)
        bench = Bench(name, trained, network, Statistics.read(known.path), text, torch.zeros(0))
        bench.reference = bench.log_probabilities(trained.weights)
        return bench

    @property
    def matrices(self) -> dict[str, Tensor]:
        """What may be quantized."""
        roles = self.network.roles
        return {n: w for n, w in self.trained.weights.items() if roles[n].is_matrix or roles[n] is Role.GATE}

    @property
    def weights(self) -> int:
        return sum(w.numel() for w in self.matrices.values())

    def model(self, matrices: Mapping[str, Matrix]) -> QuantizedModel:
        """The deployed form; of no matrices, what everything else costs."""
        left = matrices if matrices else self.matrices
        rest = {n: w.half() for n, w in self.trained.weights.items() if n not in left}
        kept = {n: self.network.roles[n].value for n in matrices}
        return QuantizedModel(self.trained.model, self.trained.vocab_size, matrices, kept, rest)

    def size(self, matrices: Mapping[str, Matrix]) -> int:
        """Bytes of the artifact, without code."""
        return packed_bytes(self.model(matrices), AnsPacker())

    def problem(self, target_bytes: int) -> Problem:
        return Problem(self.matrices, self.network.roles, self.statistics, self.size, target_bytes)

    @torch.inference_mode()
    def log_probabilities(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Of every next token of the text."""
        self.network.load_state_dict(weights)
        inputs = self.tokens[:, :-1]
        parts = [self.network(x, x == 1).log_softmax(-1) for x in inputs.split(ROWS)]
        return torch.cat(parts)

    def compare(self, matrices: Mapping[str, Matrix]) -> dict[str, float]:
        """Rise of the loss with its paired standard error, and KL, in nats a token."""
        got = self.log_probabilities(self.model(matrices).weights())
        targets = self.tokens[:, 1:].unsqueeze(2)
        rise = (self.reference - got).gather(2, targets).squeeze(2).mean(1)
        kl = (self.reference.exp() * (self.reference - got)).sum(2).mean(1)
        return {
            "loss_rise": float(rise.mean()),
            "loss_rise_se": float(rise.std() / math.sqrt(len(rise))),
            "kl": float(kl.mean()),
            "kl_se": float(kl.std() / math.sqrt(len(kl))),
        }

    @torch.inference_mode()
    def losses(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Nats of every token [sequences, CONTEXT]."""
        got = self.log_probabilities(weights)
        return -got.gather(2, self.tokens[:, 1:].unsqueeze(2)).squeeze(2)

    def adapted(self, weights: Mapping[str, Tensor], rate: float) -> Tensor:
        """The same with every chunk learned from after it was scored."""
        self.network.load_state_dict(weights)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=rate, momentum=0.9)
        out = []
        for part in self.tokens.split(CHUNK):
            inputs, targets = part[:, :-1], part[:, 1:]
            logits = self.network(inputs, inputs == 1)
            nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
                targets.shape
            )
            out.append(nll.detach())
            optimizer.zero_grad()
            nll.mean().backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimizer.step()
        return torch.cat(out)

    def predicted(self, matrices: Mapping[str, Matrix]) -> float:
        """The sum of what the statistics say every matrix's error costs."""
        errors = {n: m.dequantize() - self.trained.weights[n] for n, m in matrices.items()}
        return sum(predicted_loss(n, e, self.statistics) or 0.0 for n, e in errors.items())


def on_clips(
    bench: Bench, relative: Mapping[Role, float], target: int, tied: Literal["head", "both"] = "both"
) -> Matrices:
    """SDClip grids with these steps over deviations, up to the one factor that lands on the target."""

    def solved(log_factor: float) -> Matrices:
        grids = grids_of(relative, log_factor)
        return Gptq(grids=grids, tied=tied).quantize_all(bench.problem(target))

    bits = 8 * (target - bench.size({})) / bench.weights
    return land(solved, bench.size, target, 3.4 - bits, -bench.weights / 8)


def grids_of(relative: Mapping[Role, float], log_factor: float) -> RoleGrids:
    """Grids with these steps over deviations, times 2^log_factor."""

    def grid(role: Role) -> SdClip:
        return SdClip(bits=8, clip_sigmas=127 * relative[role] * 2.0**log_factor)

    return RoleGrids(embedding=grid(Role.EMBEDDING), attention=grid(Role.ATTENTION), mlp=grid(Role.MLP))


def tuned(bench: Bench, target: int) -> tuple[dict[Role, float], Matrices]:
    """The best clips by type: coordinate descent on the very text that methods are compared on.

    From what the solver would set them to (`type_clips`), which is near the best already.
    """
    start = RateDistortion(form=TypeClips()).quantize_all(bench.problem(target))
    best = {role: _relative_step(bench, start, role) for role in COMMUNITY}
    matrices = on_clips(bench, best, target)
    least = bench.compare(matrices)["kl"]
    for octaves in (0.25,):
        moved = True
        while moved:
            moved = False
            for role in (Role.EMBEDDING, Role.MLP):
                for sign in (1, -1):
                    other = {**best, role: best[role] * 2.0 ** (sign * octaves)}
                    tried = on_clips(bench, other, target)
                    if (kl := bench.compare(tried)["kl"]) < least * 0.995:
                        best, least, matrices, moved = other, kl, tried, True
    return best, matrices


def _relative_step(bench: Bench, matrices: Matrices, role: Role) -> float:
    """Mean step over row deviation of a role's matrices, as a geometric mean."""
    logs = []
    for name, m in matrices.items():
        if bench.network.roles[name] is role and isinstance(m, QuantizedMatrix):
            spread = bench.trained.weights[name].std(dim=1, correction=0).clamp_min(2.0**-24)
            logs.append((m.step.flatten() / spread).log2())
    return float(2 ** torch.cat(logs).mean())


def study(bench: Bench, bits: tuple[float, ...], say: Callable[[str], None]) -> list[dict[str, object]]:
    """Every method at every target."""
    rows: list[dict[str, object]] = []
    for b in sorted(bits, reverse=True):
        target = bench.size({}) + int(b * bench.weights / 8)
        _, best = tuned(bench, target)
        answers = {
            "community": lambda t=target: on_clips(bench, COMMUNITY, t, "head"),
            "tuned_clips": lambda m=best: m,
        }
        for kind, form in FORMS.items():
            answers[kind] = lambda f=form, t=target: RateDistortion(form=f).quantize_all(bench.problem(t))
        answers["two_sided + rate_aware"] = lambda t=target: RateDistortion(
            form=TwoSided(), rate_aware=0.25
        ).quantize_all(bench.problem(t))
        for method, solve in answers.items():
            began = time.perf_counter()
            matrices = solve()
            seconds = time.perf_counter() - began
            size = bench.size(matrices)
            row = {
                "model": bench.name, "bits": b, "method": method, "bytes": size, "of_target": size / target,
                **bench.compare(matrices), "predicted": bench.predicted(matrices), "seconds": seconds,
            }  # fmt: skip
            rows.append(row)
            say(f"{bench.name} {b:.2f} b/w {method:<24} {row['of_target']:.5f} of target  rise "
                f"{row['loss_rise']:.4f} +- {row['loss_rise_se']:.4f}  KL {row['kl']:.4f}  predicted "
                f"{row['predicted']:.4f}  {seconds:.1f} s")  # fmt: skip
    return rows


def survival(bench: Bench, bits: float, say: Callable[[str], None]) -> list[dict[str, object]]:
    """How much of a method's lead is left after score-first adaptation, and with low-rank correction.

    Adaptation is full-parameter SGD on the stream: chunks are scored, then learned from once (momentum 0.9, clipped
    at norm 1), at the rate that serves the float model best. The rise of an adapted model is over the adapted
    float model.
    """
    target = bench.size({}) + int(bits * bench.weights / 8)
    clips, on_tuned = tuned(bench, target)
    rates = {rate: float(bench.adapted(bench.trained.weights, rate).mean()) for rate in RATES}
    rate = min(rates, key=lambda r: rates[r])
    base = bench.adapted(bench.trained.weights, rate)
    plain = bench.losses(bench.trained.weights)
    say(
        f"{bench.name}: float {float(plain.mean()):.4f}, adapted {float(base.mean()):.4f} nats at rate {rate}"
    )
    answers: dict[str, Callable[[], Matrices]] = {"tuned_clips": lambda: on_tuned}
    for kind in ("fisher_rows", "fisher_grid", "two_sided"):
        solver = RateDistortion(form=FORMS[kind])
        answers[kind] = lambda s=solver: s.quantize_all(bench.problem(target))
        corrected = Lqer(base=solver)
        answers[f"{kind} + lqer"] = lambda s=corrected: s.quantize_all(bench.problem(target))
    answers["tuned_clips + lqer"] = lambda: clips_with_lqer(bench, clips, target)
    rows: list[dict[str, object]] = []
    for method, solve in answers.items():
        matrices = solve()
        weights = bench.model(matrices).weights()
        rise = (bench.losses(weights) - plain).mean(1)
        after = (bench.adapted(weights, rate) - base).mean(1)
        row: dict[str, object] = {"model": bench.name, "bits": bits, "method": method, "rate": rate,
                                  "of_target": bench.size(matrices) / target}  # fmt: skip
        for name, values in (("loss_rise", rise), ("adapted_loss_rise", after)):
            row[name], row[f"{name}_se"] = float(values.mean()), float(values.std() / math.sqrt(len(values)))
        rows.append(row)
        say(f"{bench.name} {bits:.2f} b/w {method:<22} rise {row['loss_rise']:.4f} +- {row['loss_rise_se']:.4f}, "
            f"adapted {row['adapted_loss_rise']:.4f} +- {row['adapted_loss_rise_se']:.4f}")  # fmt: skip
    return rows


def clips_with_lqer(bench: Bench, clips: Mapping[Role, float], target: int) -> Matrices:
    """Tuned clips and the records' correction (rank 4 on three tensors), together on the target."""

    def solved(log_factor: float) -> Matrices:
        return Lqer(base=Gptq(grids=grids_of(clips, log_factor), tied="both")).quantize_all(
            bench.problem(target)
        )

    bits = 8 * (target - bench.size({})) / bench.weights
    return land(solved, bench.size, target, 3.4 - bits, -bench.weights / 8)


def table(rows: list[dict[str, object]]) -> str:
    """Markdown: KL and rise by model, budget and method, with ratios to the tuned and the community's clips."""
    lines = [
        "| model | bits/weight | method | of target | loss rise (nats) | KL (nats) | predicted | KL of tuned clips' |"
        " KL of community's | rise of tuned clips' |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        alike = [r for r in rows if (r["model"], r["bits"]) == (row["model"], row["bits"])]
        best, usual = (next(r for r in alike if r["method"] == m) for m in ("tuned_clips", "community"))
        lines.append(
            f"| {row['model']} | {row['bits']:.2f} | {row['method']} | {row['of_target']:.4%} "
            f"| {row['loss_rise']:.4f} ± {row['loss_rise_se']:.4f} | {row['kl']:.4f} ± {row['kl_se']:.4f} "
            f"| {row['predicted']:.4f} | {row['kl'] / best['kl']:.2f} | {row['kl'] / usual['kl']:.2f} "
            f"| {row['loss_rise'] / best['loss_rise']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def survival_table(rows: list[dict[str, object]]) -> str:
    """Markdown: the rise of the loss before and after adaptation, by model and method."""
    lines = [
        "",
        f"At {SURVIVAL_BITS} bits a weight, with low-rank correction, and after score-first adaptation (over the",
        "adapted float model):",
        "",
        "| model | method | loss rise (nats) | after adaptation |",
        "|---|---|---|---|",
    ]
    for s in rows:
        lines.append(
            f"| {s['model']} | {s['method']} | {s['loss_rise']:.4f} ± {s['loss_rise_se']:.4f} "
            f"| {s['adapted_loss_rise']:.4f} ± {s['adapted_loss_rise_se']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, object]]) -> Figure:
    """KL against bits a weight, a panel a model, and below it the ratio to the tuned clips."""
    models = list(dict.fromkeys(str(r["model"]) for r in rows))
    methods = list(dict.fromkeys(str(r["method"]) for r in rows))
    figure = Figure(figsize=(4.6 * len(models), 7.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(models), squeeze=False, sharex=True)
    for column, model in enumerate(models):
        for method, colour in zip(methods, COLOURS, strict=False):
            own = sorted(
                (r for r in rows if (r["model"], r["method"]) == (model, method)), key=lambda r: r["bits"]
            )
            tuned_kl = {
                r["bits"]: r["kl"] for r in rows if (r["model"], r["method"]) == (model, "tuned_clips")
            }
            x = [r["bits"] for r in own]
            axes[0][column].plot(x, [r["kl"] for r in own], marker="o", ms=4, color=colour, label=method)
            axes[1][column].plot(
                x, [r["kl"] / tuned_kl[r["bits"]] for r in own], marker="o", ms=4, color=colour
            )
        axes[0][column].set(yscale="log", title=model)
        axes[1][column].set(ylim=(0, 2.2), xlabel="bits a weight, as packed")
        axes[1][column].axhline(0.6, color="#8a93a3", lw=0.8, ls=":")
        axes[1][column].axhline(0.4, color="#8a93a3", lw=0.8, ls=":")
    axes[0][0].set_ylabel("KL from the float model, nats a token")
    axes[1][0].set_ylabel("KL over that of tuned clips")
    axes[0][0].legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rate_distortion")
    parser.add_argument("--store", default=STORE)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--bits", nargs="+", type=float, default=list(BITS))
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    left: list[dict[str, object]] = []
    for name in given.models:
        bench = Bench.load(name, Store(given.store), given.sequences)
        rows += study(bench, tuple(given.bits), partial(print, flush=True))
        left += survival(bench, SURVIVAL_BITS, partial(print, flush=True))
    given.out.mkdir(parents=True, exist_ok=True)
    report = {"rows": rows, "survival": left, "provenance": provenance(Runtime())}
    (given.out / "rate_distortion.json").write_text(json.dumps(report, indent=1) + "\n")
    (given.out / "rate_distortion.md").write_text(table(rows) + survival_table(left))
    picture(rows).savefig(given.out / "rate_distortion.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
