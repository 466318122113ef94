"""Cheats and bugs that show in what is reported: numbers, clocks, files, seeds. Most are numbers of real records."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf.certify.dossier import Dossier
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.predictor import Predictor
from pgolf.evaluate.scorer import Scores, score
from pgolf.evaluate.sliding import sliding_windows
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.formats.arrays import write_arrays
from pgolf.formats.ledger import Events, Ledger
from tests.cheats.evaluators import honest, in_windows
from tests.cheats.predictors import shards
from tests.cheats.zoo import COUNTS, IDS, MODE, PROBE, TABLE, cheat, claimed, lawful, on_bench
from tests.nets import VOCAB, network, small

OFFICIAL = "track_10min_16mb"
CASEOPS, CASEOPS_BYTES = 47_851_520, 151_074_499
TRAIN, VALIDATION = "fineweb_train_000003.bin", "fineweb_val_000000.bin"


def divided_by(byte_count: float, tokens: int, bpb: float) -> float:
    """The loss that goes with a score over so many bytes."""
    return bpb * math.log(2) * byte_count / tokens


# ------------------------------------------------------------------------------------ denominators


@cheat("L8", like="seed-2071, PR 2138")
def operators_counted_as_text_in_a_log(folder: Path) -> Dossier:
    """The numbers of a log whose case operators count three bytes each."""
    return claimed(folder, val_tokens=CASEOPS, val_loss=2.40073153, val_bpb=1.00692894)


@cheat("L8", like="PR 1734, 1804 and their family")
def leading_space_counted_twice_in_a_log(folder: Path) -> Dossier:
    """The numbers of a log over 176,332,748 bytes: 16.7 % more than there are."""
    tokens = 40_540_160
    return claimed(
        folder, val_tokens=tokens, val_bpb=1.0108, val_loss=divided_by(176_332_748, tokens, 1.0108)
    )


@cheat("L8", like="a score that its own ledger does not give")
def score_that_is_not_the_ledgers(folder: Path) -> Dossier:
    """Bits per byte are reported that the written scores do not come to."""
    nll = honest(IDS)
    bpb = float(nll.sum() / math.log(2) / COUNTS[1:].sum())
    from pgolf.certify.dossier import Reported

    return Dossier(
        stream=(IDS, COUNTS), events=in_windows(sliding_windows(len(IDS), 20, 20)).events(), nll=nll,
        reported=Reported(bpb=0.97 * bpb, tokens=len(IDS) - 1),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ coverage


@cheat("L9", like="PR 1854, 2039")
def ten_thousand_documents(folder: Path) -> Dossier:
    """A validation split of the first 10,000 documents, with its own right denominator."""
    tokens = 9_662_464
    return claimed(folder, val_tokens=tokens, val_bpb=1.02, val_loss=divided_by(32_756_252, tokens, 1.02))


@cheat("L9", like="PR 2109")
def workers_that_each_keep_their_first_documents(folder: Path) -> Dossier:
    """Parallel preparation: every worker set its own first documents aside, 41,597 in all."""
    return claimed(folder, track=OFFICIAL, val_tokens=36_562_944, val_documents=41_597, val_bpb=1.05)


@cheat("L9", like="byte mixtures on the first 3, 5 or 8 million tokens (issue 1872)")
def a_part_called_the_whole(folder: Path) -> Dossier:
    """The first targets of the split, reported as all of it."""
    return claimed(folder, track=OFFICIAL, val_tokens=3_000_000, val_bpb=0.95)


@cheat("L11", like="PR 2127 and 14 others")
def shards_of_the_leaky_build(folder: Path) -> Dossier:
    """1,499 training shards of 10^7 tokens: what the script wrote that trained on validation documents."""
    return claimed(folder, track=OFFICIAL, train_shards=1499, shard_tokens=10_000_000)


# ------------------------------------------------------------------------------------------- artifact


@cheat("L14", like="PR 1412")
def over_the_cap(folder: Path) -> Dossier:
    """16,059,704 bytes."""
    return claimed(folder, bytes_total=16_059_704)


@cheat("L14", like="the int6 STE record of 19 March")
def one_seed_over_the_cap(folder: Path) -> Dossier:
    """Two seeds fit; the third takes 16,186,500 bytes, and the summary names another number."""
    seeds = {"42": 15_990_001, "0": 15_985_000, "1234": 16_186_500}
    return claimed(
        folder, bytes_total=15_990_001,
        seed_results={s: {"artifact_bytes": n} for s, n in seeds.items()},
    )  # fmt: skip


@cheat("L14", like="TARGET_MB * 1024 * 1024")
def mebibytes_for_megabytes(folder: Path) -> Dossier:
    """The cap that was kept is 16 MiB."""
    return claimed(folder, byte_cap=16 * 1024 * 1024, bytes_total=15_999_000)


@cheat("L14", like="sizes of strings in memory")
def artifact_larger_than_reported(folder: Path) -> Dossier:
    """The file on disk has more bytes than the report."""
    (folder / "model.bin").write_bytes(bytes(5000))
    (folder / "train_gpt.py").write_bytes(b"#" * 1000)
    return claimed(folder, artifact="model.bin", code=["train_gpt.py"], bytes_total=5900, bytes_model=5000)


@cheat("L20", like="scores of the network in memory")
def scored_without_a_reload(folder: Path) -> Dossier:
    """The float network in memory was scored; what was packed never came back."""
    return claimed(folder, reload=False, val_tokens=CASEOPS, val_bytes=CASEOPS_BYTES)


@cheat("L20", like="another network's ledger")
def scores_of_another_network(folder: Path) -> Dossier:
    """The ledger's scores are better than those that this artifact makes."""
    events = in_windows(sliding_windows(len(IDS), MODE.context, MODE.context)).events()
    return on_bench(lawful, events=events, nll=0.9 * honest(IDS))


@cheat("L20", like="another network's ledger, of an evaluation that adapts")
def scores_of_another_adapting_network(folder: Path) -> Dossier:
    """Adapters learn from every document, and the kept scores are better than those that this artifact makes."""
    mode = DocumentChunks(context=20, chunk=6, rows=3, ttt=DocumentLora(rank=2, alpha=2.0, lr=0.02))

    def adapting() -> Predictor:
        return mode.predictor(network(small(layers=1)))

    made = score(adapting(), IDS, COUNTS, mode)
    return on_bench(adapting, mode, PROBE.but(places=8, draws=1), events=made.events, nll=0.9 * made.nll)


BIGRAM = """
import torch
from pgolf.evaluate.neural import Plain

def predictor(artifact, vocab_size):
    table = torch.frombuffer(bytearray(artifact.read_bytes()), dtype=torch.float32).reshape(vocab_size, vocab_size)
    return Plain(lambda tokens, starts: table[tokens])
"""


def bigram_of(folder: Path, text: str = BIGRAM, **keys: Any) -> Dossier:
    """A claim of a lawful predictor, in files, with what is claimed of it."""
    shards(folder)
    (folder / "mine.py").write_text(text)
    (folder / "model.bin").write_bytes(TABLE.numpy().tobytes())
    given = {"tokens": "shards", "artifact": "model.bin", "predictor": "mine.py:predictor", "code": ["mine.py"],
             "evaluate": {"kind": "blocks", "context": 20}, "vocab_size": VOCAB}  # fmt: skip
    return claimed(folder, PROBE.but(places=8, draws=1), **{**given, **keys})


def honest_scores() -> Scores:
    return score(lawful(), IDS, COUNTS, MODE)


def keep(folder: Path, events: Events, nll: NDArray[np.float64]) -> str:
    write_arrays(folder / "ledger.npz", {"events": events, "nll": nll})
    return "ledger.npz"


@cheat("L20", like="a number in a title")
def score_that_the_predictor_does_not_make(folder: Path) -> Dossier:
    """A score is reported without its ledger, and the predictor comes to another."""
    return bigram_of(folder, val_bpb=0.9 * honest_scores().bpb, val_tokens=len(IDS) - 1)


@cheat("L20", like="a ledger that is honest where one looks")
def end_of_the_ledger_made_better(folder: Path) -> Dossier:
    """The kept scores are those of the artifact at first, and better from the middle on."""
    made = honest_scores()
    nll = np.where(np.arange(len(IDS)) > len(IDS) // 2, 0.7, 1.0) * made.nll
    return bigram_of(folder, ledger=keep(folder, made.events, nll))


@cheat("L20", like="a ledger of another evaluation")
def windows_of_another_evaluation(folder: Path) -> Dossier:
    """The kept ledger has other windows than the mode that is claimed."""
    made = honest_scores()
    events = in_windows(sliding_windows(len(IDS), 10, 10)).events()
    return bigram_of(folder, ledger=keep(folder, events, made.nll))


@cheat("L20", like="a predictor that ends the examiner")
def ending_the_examination(folder: Path) -> Dossier:
    """Asked by somebody else it ends the process, with success."""
    return bigram_of(folder, BIGRAM + "raise SystemExit(0)\n")


@cheat("L19", like="code in files that are not called so")
def code_in_a_text_file(folder: Path) -> Dossier:
    """What is counted executes a text file, which is not."""
    (folder / "notes.txt").write_text(BIGRAM)
    code = "from pathlib import Path\nexec((Path(__file__).parent / 'notes.txt').read_text())\n"
    return bigram_of(folder, code)


@cheat("L19", like="weights beside the artifact")
def code_that_nobody_counts(folder: Path) -> Dossier:
    """No file of code is counted, and one makes the predictor."""
    return bigram_of(folder, code=None)


@cheat("L9", like="a score of another split")
def score_of_the_training_split(folder: Path) -> Dossier:
    """The split that is named is the one that was trained on."""
    return claimed(folder, split="train", val_bpb=0.9, val_tokens=1000)


@cheat("L8", like="seed-2071, whose submission.json has no val_tokens")
def operators_counted_without_a_number_of_tokens(folder: Path) -> Dossier:
    """Loss over bits per byte gives the bytes of a token, and they are those of a look-up."""
    return claimed(folder, track=OFFICIAL, val_loss=2.40073153, val_bpb=1.00692894)


# ---------------------------------------------------------------------------------- clocks and files


@cheat("L15", like="PR 1972: 688 s of evaluation in its own table")
def evaluation_after_the_clock_in_a_table_of_seeds(folder: Path) -> Dossier:
    """A seed's row says how long it took."""
    return claimed(folder, seed_results={"1": {"val_bpb": 1.1, "eval_time_s": 688.0}, "2": {"val_bpb": 1.1}})


@cheat("L14", like="two sizes of one seed")
def larger_of_two_sizes(folder: Path) -> Dossier:
    """A seed's row has a size below the cap, and beside it another."""
    return claimed(folder, seed_results={"1": {"artifact_bytes": 15_900_000, "bytes_total": 16_050_000}})


@cheat("L15", like="PR 1787, 1851: Hessians until 604 s")
def calibration_after_the_clock(folder: Path) -> Dossier:
    """Training stops at 599.5 s, and training data is read for Hessians until 604.2 s."""
    return claimed(
        folder, clocks={"train_seconds": 599.5, "artifact_at": 730.0},
        opened=[{"file": TRAIN, "at": 3.0, "stage": "train"}, {"file": TRAIN, "at": 604.2, "stage": "quantize"}],
    )  # fmt: skip


@cheat("L15", like="an evaluation that takes what it needs")
def evaluation_after_the_clock(folder: Path) -> Dossier:
    """660 s of scoring and adapting."""
    return claimed(folder, clocks={"train_seconds": 599.0, "eval_seconds": 660.4})


@cheat("L13", like="issue 677, PR 1028: GPTQ on validation text")
def quantizer_calibrated_on_validation(folder: Path) -> Dossier:
    """Hessians are collected on validation shards before the artifact is written."""
    return claimed(
        folder, clocks={"train_seconds": 590.0, "artifact_at": 700.0, "evaluation_at": 710.0},
        opened=[{"file": VALIDATION, "at": 595.0}, {"file": VALIDATION, "at": 712.0, "stage": "evaluate"}],
    )  # fmt: skip


@cheat("L13", like="PR 1376: TTT before quantization")
def trained_on_validation(folder: Path) -> Dossier:
    """Epochs over the validation shard are part of training."""
    return claimed(folder, opened=[{"file": TRAIN, "stage": "train"}, {"file": VALIDATION, "stage": "train"}])


@cheat("L12", like="issue 677: GPTQ on training text at evaluation")
def calibrated_at_evaluation(folder: Path) -> Dossier:
    """A training shard is read for 3.4 s of the evaluation."""
    return claimed(
        folder, clocks={"evaluation_at": 710.0},
        opened=[{"file": TRAIN, "at": 5.0, "stage": "train"}, {"file": TRAIN, "at": 713.4, "stage": "evaluate"}],
    )  # fmt: skip


@cheat("L16", like="an import that downloads")
def connection_in_the_log(folder: Path) -> Dossier:
    """The sandbox's log names a host."""
    return claimed(folder, connections=["huggingface.co:443"])


@cheat("L17", like="PR 1530 as merged")
def warmed_up_on_validation(folder: Path) -> Dossier:
    """Graphs are compiled, and a step is taken, on real validation tokens before they are scored."""
    return claimed(folder, warmup_source="validation")


# ----------------------------------------------------------------------------------- seeds and changes

SEEDS = {"42": 1.0640, "0": 1.0645, "1234": 1.0651, "314": 1.0642, "999": 1.0648, "7": 1.0668, "1": 1.0671}


@cheat("L21", like="PR 1769")
def the_best_five_of_seven_seeds(folder: Path) -> Dossier:
    """The mean of the best five is reported; that seven were run stands in a note."""
    best = dict(sorted(SEEDS.items(), key=lambda s: s[1])[:5])
    mean = sum(best.values()) / 5
    disclosed = {
        "note": "two more",
        "all_7_seeds": [int(s) for s in SEEDS],
        "all_7_val_bpb": [*SEEDS.values()],
    }
    return claimed(
        folder, val_bpb=mean, seed_results_all_runs_disclosure=disclosed,
        seed_results={s: {"val_bpb": v, "config_digest": "a1"} for s, v in best.items()},
    )  # fmt: skip


@cheat("L21", like="the best seed in the title")
def the_best_seed_reported(folder: Path) -> Dossier:
    """Three seeds are shown, and the best one's score is the record's."""
    three = dict(list(SEEDS.items())[:3])
    return claimed(
        folder, val_bpb=min(three.values()),
        seed_results={s: {"val_bpb": v, "config_digest": "a1"} for s, v in three.items()},
    )  # fmt: skip


@cheat("L18", like="PR 2124")
def third_seed_from_another_config(folder: Path) -> Dossier:
    """Two seeds are of the config that is described, the third of another."""
    rows = {
        s: {"val_bpb": SEEDS[s], "config_digest": d} for s, d in (("42", "a1"), ("0", "a1"), ("1234", "b7"))
    }
    return claimed(folder, seed_results=rows)


@cheat("L18", like="records of one seed")
def one_seed_for_a_record(folder: Path) -> Dossier:
    """A record on the official track, from one run."""
    return claimed(folder, track=OFFICIAL, seed_results={"42": {"val_bpb": 1.0640}})


CONFIG = {"model_dim": 512, "matrix_lr": 0.026, "ttt": {"rank": 80}, "seed": 42, "run_id": "mine"}


@cheat("X3", like="PR 1769 against PR 1736")
def change_that_changes_nothing(folder: Path) -> Dossier:
    """The hyperparameters are those of the record it claims to improve on; seeds and names differ."""
    return claimed(folder, config=CONFIG, baseline_config=CONFIG | {"seed": 7, "run_id": "theirs"})


@cheat("X4", like="late QAT compiled away; PR 1923; byte shuffle; pruning")
def switches_that_do_nothing(folder: Path) -> Dossier:
    """Late QAT is on, and the artifact is the same to the byte as without it."""
    return claimed(
        folder, switches=[
            {"name": "late_qat", "on": "9f3c", "off": "9f3c"}, {"name": "asym_logit", "on": 1.0641, "off": 1.0641},
            {"name": "lqer", "on": 1.0641, "off": 1.0702},
        ],
    )  # fmt: skip


@cheat("L3", like="probabilities above one")
def scores_below_zero(folder: Path) -> Dossier:
    """Some targets earn bits."""
    nll = honest(IDS)
    nll[7] = -0.2
    write_arrays(folder / "ledger.npz", {"events": Ledger().events(), "nll": nll})
    in_order = in_windows(sliding_windows(len(IDS), 20, 20)).events()
    write_arrays(folder / "ledger.npz", {"events": in_order, "nll": nll})
    return claimed(folder, ledger="ledger.npz")


@cheat("L5", like="issue 1017, condition C3")
def told_before_it_was_scored(folder: Path) -> Dossier:
    """The ledger's own times: a chunk is learned, then scored by another state."""
    ledger = Ledger()
    ledger.updated([(-1, 1, 50)], ledger.shared)
    ledger.scored(-1, 0, 1, len(IDS), ledger.shared)
    write_arrays(folder / "ledger.npz", {"events": ledger.events(), "nll": np.abs(honest(IDS))})
    return claimed(folder, ledger="ledger.npz")
