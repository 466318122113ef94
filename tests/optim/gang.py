"""One rank of a gang, for the tests: `torchrun ... -m tests.optim.gang OUT`. Trains the toy by every section
below and writes what became of rank r to OUT/<section>.<r>.pt."""

import sys
from pathlib import Path

import torch

from pgolf.optim.adam import Adam
from pgolf.optim.centralize import Centralize
from pgolf.optim.decay_taper import DecayTaper
from pgolf.optim.ema import Ema
from pgolf.optim.gradient_power import GradientPower
from pgolf.optim.muon import Muon
from pgolf.optim.nor_muon import NorMuon
from pgolf.optim.optimizer import Optim
from pgolf.optim.orthogonalizer import PolarExpress, Turbo
from pgolf.optim.schedule import Schedule
from pgolf.optim.swa import Swa
from pgolf.rules import Gang
from pgolf.runtime import Runtime
from tests.optim.toy import train

RECORD = Optim(
    muon=Muon(
        lr=0.05, row_normalize=True, orthogonalizer=PolarExpress(), weight_decay=0.1, momentum_warmup_fraction=0.3
    ),
    adam=Adam(eps=0.01, embedding_weight_decay=0.1, control_weight_decay=0.02),
    schedule=Schedule(warmdown_fraction=0.85, min_lr=0.1),
    ema=Ema(window_fraction=0.1),
    grad_clip=0.3,
)  # fmt: skip
SECTIONS = {
    "plain": Optim(muon=Muon(lr=0.05)),
    "record": RECORD,
    "switches": RECORD.but(
        muon=Muon(
            lr=0.05, nor_muon=NorMuon(), gradient_power=GradientPower(), centralize=Centralize(), weight_decay=0.1,
            decay_taper=DecayTaper(), orthogonalizer=Turbo(first=2), newton_schulz_steps=4,
        ),
        swa=Swa(every_fraction=0.1), blend=0.4,
    ),
    "local": RECORD.but(grad_clip_scope="local", adam=Adam(eps=1.0)),
}  # fmt: skip


def main(out: Path) -> None:
    runtime = Runtime.local(Gang(ranks=2))
    with runtime.joined():
        for name, section in SECTIONS.items():
            weights, rides, optimizer = train(section, runtime)
            padding = [
                part[max(len(bank.matrices) - runtime.rank * len(part), 0) :]
                for i, bank in enumerate(optimizer.muon.banks)
                for part in (bank.momentum, *optimizer.muon.second[i : i + 1])
            ]
            torch.save(
                {"weights": weights, "rides": rides, "padding": padding}, out / f"{name}.{runtime.rank}.pt"
            )
        single, _, _ = train(RECORD, runtime, dtype=torch.float32)
        torch.save({"weights": single}, out / f"float32.{runtime.rank}.pt")
        coarse = RECORD.but(muon=RECORD.muon.but(momentum_dtype="bfloat16"))
        torch.save({"weights": train(coarse, runtime)[0]}, out / f"bfloat16.{runtime.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
