"""`RunConfig`: a trial on one screen, and everything that decides its result.

The name is a label and the seed a replicate: neither is part of the config's digest, so rows that
differ in the seed alone are seeds of one candidate.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from pgolf.certify.stage import Certify
from pgolf.data.source import DataSource, PythonStdlib
from pgolf.errors import ConfigError
from pgolf.evaluate.evaluation import Evaluation
from pgolf.evaluate.sliding import Sliding
from pgolf.model.gpt import GptConfig
from pgolf.optim.optimizer import Optim
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.stage import Packer
from pgolf.quantize.binary import Binary
from pgolf.quantize.calibrate import Calibrate, Fisher
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.stage import Quantizer
from pgolf.quantize.statistics import FISHER, FULL_FISHER
from pgolf.quantize.ternary import Ternary
from pgolf.rules import BUDGETS, LAPTOP, Rules
from pgolf.section import Refusal, RuleBroken, Section, assign, digest_of, parse
from pgolf.train.late_qat import LateQat
from pgolf.train.loop import Train


class RunConfig(Section):
    """One candidate: representation, network, optimizer, quantizer, packer, evaluation, rules."""

    name: str = "unnamed"  # the recipe it came from; a label
    seed: int = Field(42, ge=0)
    data: DataSource = PythonStdlib()
    model: GptConfig = GptConfig()
    optim: Optim = Optim()
    train: Train = Train()
    calibrate: Calibrate | None = Calibrate()
    quantize: Quantizer = Gptq()
    pack: Packer = BrotliPacker()
    evaluate: Evaluation = Sliding()
    certify: Certify = Certify()
    rules: Rules = LAPTOP

    @model_validator(mode="after")
    def _parts_fit(self) -> "RunConfig":
        if self.quantize.needs and self.calibrate is None:
            raise RuleBroken(
                f"quantize.kind={self.quantize.kind} needs calibration", "calibrate=null",
                "set calibrate, or quantize.kind=rtn",
            )  # fmt: skip
        fisher = self.calibrate.fisher if self.calibrate is not None else None
        if FISHER in self.quantize.needs and fisher is None:
            raise RuleBroken(
                f"quantize.kind={self.quantize.kind} weighs outputs by their Fisher information",
                "calibrate.fisher=null", f"--set calibrate.fisher.tokens={self._fisher_tokens()}",
            )  # fmt: skip
        if FULL_FISHER in self.quantize.needs and fisher is not None and not fisher.full:
            raise RuleBroken(
                "the two-sided form wants whole output covariances",
                "calibrate.fisher.full=false", "--set calibrate.fisher.full=true",
            )  # fmt: skip
        if (wanted := self.quantize.expected_artifact_bytes(0, cap := self.rules.artifact_bytes)) > cap:
            raise RuleBroken(
                "a quantizer's target_bytes are within the rules' cap",
                f"target_bytes={wanted}, rules.artifact_bytes={cap}", f"target_bytes={cap} at most",
            )  # fmt: skip
        if self.train.loader.kind == "packed" and self.model.rope.scaling is not None:
            raise RuleBroken(
                "rows of packed documents leave RoPE's frequencies alone",
                f"model.rope.scaling.kind={self.model.rope.scaling.kind} with train.loader.kind=packed",
                "model.rope.scaling=null, or another loader",
            )
        if self.evaluate.ttt is not None:
            self.evaluate.ttt.must_fit(len(self.model.order()), len(set(self.model.uses())))
        late = self.train.late_qat
        if (
            late is not None
            and late.kind == "noisy"
            and late.recurrent_only
            and self.model.recurrence is None
        ):
            raise RuleBroken(
                "train.late_qat.recurrent_only is about the matrices of a recurrent band",
                "recurrent_only=true, model.recurrence=null",
                "train.late_qat.recurrent_only=false, or a model.recurrence",
            )
        if isinstance(self.quantize, Ternary | Binary):
            _trained_as_deployed(self.quantize, late)
        if self.train.rows % self.rules.gang.ranks:
            ranks = self.rules.gang.ranks
            rows = max(self.train.rows // ranks, 1) * ranks
            raise RuleBroken(
                "a batch's rows (train.batch_tokens / tokens of a row) are shared evenly by the ranks",
                f"{self.train.rows} rows on {ranks} ranks",
                f"train.batch_tokens={rows * self.train.row_tokens}",
            )
        return self

    def _fisher_tokens(self) -> int:
        """As many as is usual, where there is as much calibration text."""
        usual = Fisher().tokens
        return usual if self.calibrate is None else min(usual, self.calibrate.tokens)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what decides the result: not the label, the seed, the gang or its price, nor
        where files lie."""
        plain = {k: v for k, v in self.plain().items() if k not in ("name", "seed", "data", "rules")}
        caps = {name: getattr(self.rules, name) for name in BUDGETS}
        return digest_of({**plain, "data": self.data.identity(), "rules": caps})

    @property
    def label(self) -> str:
        return f"{self.name}-{self.digest[:8]}"


def _trained_as_deployed(quantize: Ternary | Binary, late: LateQat | None) -> None:
    """Codes this coarse are found by training under them, never afterwards. Raises RuleBroken."""
    kind, group = quantize.kind, quantize.group
    if late is None or late.kind != kind:
        raise RuleBroken(
            f"quantize.kind={kind} deploys networks that were trained with {kind} weights",
            f"train.late_qat{'=null' if late is None else f'.kind={late.kind}'}",
            f"train.late_qat.kind={kind}, or another quantize.kind",
        )
    if late.group != group:
        raise RuleBroken(
            "weights are grouped in training as they are deployed",
            f"train.late_qat.group={late.group}, quantize.group={group}",
            f"train.late_qat.group={group}",
        )


def parse_config(data: Any) -> RunConfig:
    """Raises ConfigError, in three lines, for anything that is not a RunConfig."""
    parsed = parse(RunConfig, data)
    if isinstance(parsed, Refusal):
        raise ConfigError(parsed.rule, parsed.given, parsed.remedy)
    assert isinstance(parsed, RunConfig)
    return parsed


def with_settings(config: RunConfig | dict[str, Any], assignments: list[str]) -> RunConfig:
    """Apply `path=value` settings, then validate. Raises ConfigError."""
    data = config.plain() if isinstance(config, RunConfig) else config
    for assignment in assignments:
        try:
            data = assign(data, assignment)
        except RuleBroken as broken:
            raise ConfigError(broken.refusal.rule, broken.refusal.given, broken.refusal.remedy) from None
    return parse_config(data)


def read_config(path: Path) -> dict[str, Any]:
    """A YAML or JSON file as plain data. Raises ConfigError if it is missing or neither."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("a config is a file that can be read, or a recipe's name", f"{path}: {error.strerror}",
                          "`pgolf recipes` lists the recipes") from None  # fmt: skip
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("a config is YAML or JSON", f"{path}: {error}", "mend the file") from None
    if not isinstance(data, dict):
        raise ConfigError("a config is a mapping of settings", f"{path}: {type(data).__name__}",
                          "write `key: value` lines")  # fmt: skip
    return data


def to_yaml(config: RunConfig) -> str:
    """The config as YAML that `read_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=110)
