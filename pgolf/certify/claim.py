"""A claim as its author writes it down: one JSON file, with paths relative to it.

    {"tokens": "shards", "predictor": "mine.py:predictor", "artifact": "model.bin",
     "evaluate": {"kind": "sliding", "context": 256, "stride": 64}, "val_bpb": 1.0611, "val_tokens": 47851520}

Keys are those of the challenge's submission.json where it has them, so that such a file is a claim already, if one
of which little can be proved. `predictor` names a function of (artifact path, vocabulary size) that makes a
pgolf.evaluate.predictor.Predictor; `evaluator` one of (tokens, byte counts) that is a whole evaluation and answers
with nats per token, or with those and the ledger's events.
"""

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pgolf.certify.dossier import Clocks, Dossier, Opening, Reported, SeedResult, Split, Switch
from pgolf.certify.perturb import Probe
from pgolf.errors import ConfigError, DataError, nearest
from pgolf.evaluate.evaluation import Evaluation
from pgolf.evaluate.predictor import Predictor
from pgolf.formats.arrays import read_arrays
from pgolf.formats.ledger import COLUMNS, Events, Order
from pgolf.rules import PARAMETER_GOLF
from pgolf.section import Refusal, Section, parse

OFFICIAL_TRACK = "track_10min_16mb"
LARGEST = 10**15  # of any number in a claim

SAY_NOTHING = frozenset(
    """
    author date github_id name blurb hardware val_bpb_std val_loss_std pre_quant_val_bpb
    pre_quant_val_loss int6_zstd_val_loss int6_zstd_val_bpb model_params sliding_val_bpb
    sliding_bpb_mean pre_ttt_sliding_mean post_quant_standard_val_bpb post_quant_standard_val_loss
    quantization_gap_bpb val_bpb_roundtrip val_loss_roundtrip val_loss_sliding post_ema_mean_bpb
    quant_roundtrip_mean_bpb ttt_gain_mean_bpb val_loss_nats val_loss_nats_std mean_bpb mean_val_bpb
    mean_val_loss std_bpb std_val_loss_nats mean_val_loss_nats n_seeds seed t_statistic p_value welch_df
    step_stop wallclock_seconds train_steps_mean train_steps step_avg_ms step_avg_ms_mean
    pytorch_version cuda_version flash_attn_version gpu platform tokenizer architecture val_bpb_method
    eval_method eval_stride seq_len context_length calibration quantization compression techniques
    technique_summary notes reproducibility_notes non_record_reason comparison_baseline_pr
    comparison_baseline_bpb base_pr based_on base_submission base_val_bpb delta_vs_base_bpb
    delta_vs_base_loss_nats delta_vs_leaderboard_bpb delta_vs_leaderboard_nats delta_vs_pr549_bpb
    delta_vs_pr549_nats delta_vs_pr1019_bpb delta_vs_pr1179_bpb delta_vs_pr1179_nats
    delta_vs_current_merged_sota_bpb delta_vs_current_merged_sota_nats merged_sota_reference
    implementation_lineage_pr negative_results_pr supports_pr submission_type our_contribution
    attribution compliance compliance_rerun num_layers model_dim num_heads num_kv_heads mlp_mult
    train_seq_len tie_embeddings matrix_lr scalar_lr tied_embed_lr muon_weight_decay adam_weight_decay
    muon_momentum fp16_embed_export int6_layer_start int6_layer_end int6_layers qat_enabled qat_int6
    use_zstd zstd_level rank run_name train_time_s_mean tokenizer_bytes certificate_holds bytes_tokenizer credits
    """.split()  # noqa: SIM905
)  # keys of records that no check reads; `compliance` is what an author says of himself
SEED_KEYS = frozenset(
    """
    val_bpb artifact_bytes val_loss steps eval_time_s step_avg_ms train_time_s pre_ttt_val_bpb
    ttt_gain_bpb eval_time_ms ttt_eval_time_s ms_per_step source gptq_reserve_seconds bytes_total
    train_time_ms ttt_time_ms pre_ttt_sliding_bpb val_var_bpb pre_quant_val_bpb quantized_val_bpb seed
    config_digest code_digest config_hash code_hash
    """.split()  # noqa: SIM905
)


class Claim(Section):
    """The keys that say something."""

    # what was shipped, and what it was scored on
    artifact: str | None = None
    tokens: str | None = None  # directory of shards
    split: Split = "validation"
    predictor: str | None = None  # file.py:function
    evaluator: str | None = None
    evaluate: Evaluation | None = None
    vocab_size: int | None = Field(None, ge=2)
    documents: Literal["islands", "stream"] = "islands"
    ledger: str | None = None  # ledger.npz: events and nll
    order_class: Order | None = None
    track: str | None = None
    probe: Probe = Probe()
    # what was reported
    val_bpb: float | None = None
    val_loss: float | None = None
    val_tokens: int | None = None
    val_bytes: int | None = None
    val_documents: int | None = None
    bytes_total: int | None = None
    bytes_code: int | None = None
    bytes_model: int | None = None
    artifact_bytes: int | None = None
    artifact_bytes_max: int | None = None
    artifact_bytes_mean: float | None = None
    artifact_size_bytes: int | None = None
    code_bytes: int | None = None
    bytes_model_compressed: int | None = None
    bytes_model_int8_zlib: int | None = None
    bytes_model_int6_zstd: int | None = None
    byte_cap: int | None = Field(None, ge=0)
    train_shards: int | None = None
    shard_tokens: int | None = None
    # how it came about
    seeds: Any = None
    seed_results: Any = None
    seed_scores: Any = None
    all_runs: Any = None
    seed_results_all_runs_disclosure: Any = None
    config: Any = None  # a mapping, or a file: JSON, YAML, or lines of `name: value`
    baseline_config: Any = None
    switches: tuple[Switch, ...] = ()
    clocks: Clocks = Clocks()
    train_time_seconds: float | None = None
    eval_time_seconds: float | None = None
    eval_time_s_mean: float | None = None
    opened: tuple[Opening, ...] | None = None
    connections: tuple[str, ...] | None = None
    code: tuple[str, ...] | None = None  # counted
    executed: tuple[str, ...] | None = None
    warmup_source: Literal["none", "random", "train", "validation"] | None = None
    reload: bool | None = None


def is_claim(file: Path) -> bool:
    """Whether a path is of a claim, and not of a trial's result.json."""
    if file.suffix != ".json" or not file.is_file():
        return False
    return b'"config_digest"' not in file.read_bytes() or b'"stages"' not in file.read_bytes()


def read_claim(file: Path, probe: Probe | None = None, predicts: int | None = None) -> Dossier:
    """A claim's dossier.

    Args:
        probe: how closely it is examined; None: as usual, or closer where the claim asks for it.
        predicts: only of what predicts, over so many tokens: nothing that was reported is read, and no shard.

    Raises:
        DataError: if the file, or one that it names, is missing or damaged.
        ConfigError: if a key is unknown, or a value does not fit.
    """
    c = _parsed(file)
    if predicts is not None:
        kept = {
            n: getattr(c, n) for n in ("artifact", "tokens", "predictor", "evaluate", "code", "documents")
        }
        c = Claim(**kept, vocab_size=predicts)
    home = file.resolve().parent

    def at(name: str | None) -> Path | None:
        return None if name is None else _existing(home / name, name, file)

    artifact, ledger = at(c.artifact), at(c.ledger)
    tokens = None if c.tokens is None else _existing(home / c.tokens, c.tokens, file, folder=True)
    code = None if c.code is None else tuple(_existing(home / n, n, file) for n in c.code)
    executed = None if c.executed is None else tuple(_existing(home / n, n, file) for n in c.executed)
    events, nll = (None, None) if ledger is None else _ledger(ledger)
    seeds = _seeds(c.seed_results, c.seed_scores, c.seeds)
    if c.predictor is not None and c.evaluate is None:
        raise ConfigError("a predictor is evaluated in some mode", "no key `evaluate`",
                          'for example "evaluate": {"kind": "sliding", "context": 1024, "stride": 64}')  # fmt: skip
    if c.evaluate is not None and c.evaluate.adaptive:
        raise ConfigError("a claim adapts and remembers by its own code",
                          "`evaluate` with ttt or memory", "leave them out; it says the windows")  # fmt: skip
    if (c.predictor or c.evaluator) and tokens is None:
        raise ConfigError("what predicts is tried out on tokens", "no key `tokens`",
                          'give "tokens": a directory of shards')  # fmt: skip
    made = None
    if c.predictor is not None:
        made = _predictor(_function(home, c.predictor), artifact, lambda: dossier.vocabulary)
    dossier = Dossier(
        home=home, artifact=artifact, tokens=tokens, split=c.split, evaluate=c.evaluate, predictor=made,
        evaluator=None if c.evaluator is None else _loaded_late(_function(home, c.evaluator)),
        vocab_size=c.vocab_size, islands=c.documents == "islands",
        official=(c.track or "").startswith(OFFICIAL_TRACK),
        events=events, nll=nll,
        order=c.order_class, reported=_reported(c), cap=c.byte_cap, config=_config(c.config, home, file),
        baseline=_config(c.baseline_config, home, file), seeds=seeds, runs=_runs(c), switches=c.switches,
        clocks=_clocks(c), opened=c.opened, connections=c.connections, counted=code, executed=executed,
        warmup=c.warmup_source, reloaded=c.reload, rules=PARAMETER_GOLF,
        probe=probe or _at_least(c.probe),
    )  # fmt: skip
    return dossier


def _parsed(file: Path) -> Claim:
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        strange = _strange(plain)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("a claim is a JSON file that can be read", f"{file}: {str(error).splitlines()[0]}",
                        "check the path and the JSON") from None  # fmt: skip
    if not isinstance(plain, dict):
        raise ConfigError("a claim is one JSON object", type(plain).__name__, '{"val_bpb": ..., ...}')
    if strange is not None:
        raise ConfigError(
            "numbers of a claim are finite and of this world", f"{strange:.3g}"[:40], "what was measured"
        )
    unknown = set(plain) - set(Claim.model_fields) - SAY_NOTHING
    if unknown:
        name = min(unknown)
        raise ConfigError(f"a claim has no key `{name}`", f"{name}={plain[name]!r}",
                          nearest(name, {*Claim.model_fields, *SAY_NOTHING}))  # fmt: skip
    found = parse(Claim, {k: v for k, v in plain.items() if k in Claim.model_fields and v is not None})
    if isinstance(found, Refusal):
        raise ConfigError(found.rule, found.given, found.remedy)
    assert isinstance(found, Claim)
    return found


def _strange(value: Any) -> float | None:
    """A number that nothing comes to, if there is one."""
    if isinstance(value, Mapping | list):
        inside = value.values() if isinstance(value, Mapping) else value
        return next((found for each in inside if (found := _strange(each)) is not None), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if abs(value) <= LARGEST else math.inf if value > 0 else -math.inf


def _existing(path: Path, name: str, claim: Path, folder: bool = False) -> Path:
    try:
        there = path.is_dir() if folder else path.is_file()
    except OSError:
        there = False
    if not there:
        what = "a folder" if folder else "a file"
        raise DataError("what a claim names is there", f"{name[:200]} ({what} was not found beside {claim.name})",
                        "paths are relative to the claim's own folder")  # fmt: skip
    return path


def _ledger(file: Path) -> tuple[Events, NDArray[np.float64]]:
    """Raises DataError if the file holds none."""
    arrays = read_arrays(file)
    events, nll = (arrays.get(name, np.zeros(0)) for name in ("events", "nll"))
    whole = events.ndim == 2 and events.shape[1] == len(COLUMNS) and events.dtype.kind in "iu"
    if not whole or nll.ndim != 1 or len(nll) < 2 or nll.dtype.kind != "f":
        said = ", ".join(f"{name} {list(a.shape)} {a.dtype}" for name, a in arrays.items())
        raise DataError("a ledger holds events and nll", f"{file}: {said or 'nothing'}",
                        "write it with pgolf.formats.ledger.write_ledger")  # fmt: skip
    return events.astype(np.int64), nll.astype(np.float64)


def _at_least(asked: Probe) -> Probe:
    """Nobody chooses to be examined less closely."""
    usual = Probe()
    fields = {name: max(getattr(asked, name), getattr(usual, name)) for name in Probe.model_fields}
    return Probe(**{**fields, "seed": usual.seed})


def _clocks(c: Claim) -> Clocks:
    """The longest of what is told of any clock."""
    seeds = _of_seeds(c)
    training = [
        c.clocks.train_seconds,
        c.train_time_seconds,
        *(_number(row, "train_time_s") for row in seeds),
    ]
    evaluation = [
        c.clocks.eval_seconds, c.eval_time_seconds, c.eval_time_s_mean,
        *(_number(row, "eval_time_s") for row in seeds),
    ]  # fmt: skip
    train, evaluated = (
        max((v for v in told if v is not None), default=None) for told in (training, evaluation)
    )
    return c.clocks.but(train_seconds=train, eval_seconds=evaluated)


def _reported(c: Claim) -> Reported:
    total = [
        c.bytes_total,
        c.artifact_bytes,
        c.artifact_bytes_max,
        c.artifact_bytes_mean,
        c.artifact_size_bytes,
    ]
    models = [c.bytes_model, c.bytes_model_compressed, c.bytes_model_int8_zlib, c.bytes_model_int6_zstd]
    per_seed = [_number(row, name) for row in _of_seeds(c) for name in ("artifact_bytes", "bytes_total")]
    given = [int(v) for v in (*total, *per_seed) if v is not None]
    return Reported(
        bpb=c.val_bpb, loss=c.val_loss, tokens=c.val_tokens, bytes=c.val_bytes, documents=c.val_documents,
        artifact_bytes=max(given) if given else None,
        model_bytes=next((m for m in models if m is not None), None),
        code_bytes=c.bytes_code if c.bytes_code is not None else c.code_bytes,
        train_shards=c.train_shards, shard_tokens=c.shard_tokens,
    )  # fmt: skip


# ------------------------------------------------------------------------------------ seeds and runs


def _rows(*tables: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(seed, what is said of it) of the first table that says anything: a map by seed, a list, or seeds alone."""
    for table in tables:
        if isinstance(table, Mapping):
            items = list(table.items())
        elif isinstance(table, list):
            items = [(row.get("seed"), row) if isinstance(row, Mapping) else (row, {}) for row in table]
        else:
            continue
        for key, value in items:
            row = value if isinstance(value, Mapping) else {"val_bpb": value} if value is not None else {}
            if unknown := set(row) - SEED_KEYS:
                name = min(unknown)
                raise ConfigError(
                    f"a seed's result has no key `{name}`", f"{name}={row[name]!r}", nearest(name, SEED_KEYS)
                )
            try:
                yield int(str(key).removeprefix("seed").removeprefix("_")), row
            except ValueError:
                raise ConfigError("results are listed by seed, a whole number", repr(key),
                                  '"seed_results": {"42": {"val_bpb": ...}}') from None  # fmt: skip
        if items:
            return


def _of_seeds(c: Claim) -> list[Mapping[str, Any]]:
    return [row for _, row in _rows(c.seed_results, c.seed_scores, c.seeds)]


def _seeds(*tables: Any) -> tuple[SeedResult, ...]:
    return tuple(
        SeedResult(
            seed=seed,
            bpb=_number(row, "val_bpb"),
            config_digest=_text(row, "config_digest", "config_hash"),
            code_digest=_text(row, "code_digest", "code_hash"),
        )
        for seed, row in _rows(*tables)
    )


def _runs(c: Claim) -> tuple[SeedResult, ...] | None:
    disclosed = c.seed_results_all_runs_disclosure
    if c.all_runs is None and isinstance(disclosed, Mapping):
        seeds = next((v for k, v in disclosed.items() if k.endswith("seeds") and isinstance(v, list)), [])
        scores = next((v for k, v in disclosed.items() if k.endswith("val_bpb") and isinstance(v, list)), [])
        return _seeds(dict(zip(map(str, seeds), scores, strict=False)))
    return None if c.all_runs is None else _seeds(c.all_runs)


def _number(row: Mapping[str, Any], *names: str) -> float | None:
    return next((float(row[n]) for n in names if isinstance(row.get(n), int | float)), None)


def _text(row: Mapping[str, Any], *names: str) -> str | None:
    return next((str(row[n]) for n in names if row.get(n) is not None), None)


def _config(given: Any, home: Path, claim: Path) -> Mapping[str, Any] | None:
    """A config given as a mapping, or by the name of a file: JSON, or a log's lines of `name: value`."""
    if given is None or isinstance(given, Mapping):
        return given
    file = _existing(home / str(given), str(given), claim)
    text = file.read_bytes().decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError:
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        found = {name.strip(): value.strip() for name, value in pairs}
    if not isinstance(found, Mapping):
        raise DataError("a config is a mapping of settings", str(given), "JSON, or lines of `name: value`")
    return found


# --------------------------------------------------------------------------------- what others wrote


def _function(home: Path, named: str) -> Callable[[], Callable[..., Any]]:
    """What gives the function `file.py:name`: from the file as it is when called."""
    name, colon, function = named.partition(":")
    file = home / name
    if not colon or file.suffix != ".py" or not function.isidentifier():
        raise ConfigError("a function is named file.py:function", named, 'for example "mine.py:predictor"')
    if not file.is_file():
        raise DataError("what a claim names is there", name, "paths are relative to the claim's own folder")

    def load() -> Callable[..., Any]:
        module_name = f"pgolf_claim_{file.stem}"
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None and spec.loader is not None, "a .py file has a loader"
        module = importlib.util.module_from_spec(spec)
        with _first_in_path(home):
            sys.modules[module_name] = module
            spec.loader.exec_module(module)
        found = getattr(module, function, None)
        if not callable(found):
            raise ConfigError(f"{name} defines {function}", f"{named}: nothing to call",
                              nearest(function, [n for n in vars(module) if not n.startswith("_")]))  # fmt: skip
        return found

    return load


def _predictor(
    load: Callable[[], Callable[..., Any]], artifact: Path | None, vocabulary: Callable[[], int | None]
) -> Callable[[], Predictor]:
    def fresh() -> Predictor:
        found = load()(artifact, vocabulary())
        if not isinstance(found, Predictor):
            raise ConfigError("a predictor is a pgolf.evaluate.predictor.Predictor", type(found).__name__,
                              "derive from Predictor, or from Holding")  # fmt: skip
        return found

    return fresh


def _loaded_late(load: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    def evaluator(*given: Any) -> Any:
        return load()(*given)

    return evaluator


@contextmanager
def _first_in_path(home: Path) -> Iterator[None]:
    """Helpers beside a claim are importable, and forgotten again: each claim, and each time, has its own."""
    before = set(sys.modules)
    sys.path.insert(0, str(home))
    try:
        yield
    finally:
        sys.path.remove(str(home))
        for name in set(sys.modules) - before:
            if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).is_relative_to(home):
                del sys.modules[name]
