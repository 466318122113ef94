"""A search on the terminal: a header, one line per finished trial, and while it runs a live line.

The live line needs a terminal. In a job's log or in CI the same events make plain lines and nothing is ever
overwritten, so that a log can be read, grepped and diffed.
"""

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cluster.events import (
    Event,
    FinalistFailed,
    FinalistScored,
    SearchStarted,
    TrialFinished,
    TrialLost,
    TrialProgress,
    TrialStarted,
)
from pgolf.formats.result import Result
from pgolf.rules import Rules

STYLES = {"ok": "green", "infeasible": "yellow", "failed": "red"}
HEADINGS = (
    f"{'#':>4}  {'trial':<32} {'status':<10} {'prequant':>8} {'bpb':>8} {'bytes':>11} {'of cap':>6} "
    f"{'train':>7} {'eval':>7}  best"
)


class Progress:
    """Renders events. Use as a context manager, and pass the object itself as `say`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.rules: Rules | None = None
        self._running: dict[int, str] = {}  # number -> what it is at
        self._began = time.monotonic()
        self._waiting, self._left = "starting Ray", 0
        self._live = Live(
            get_renderable=self._status, console=self.console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live.start()
        else:
            self._print(Text("starting Ray", style="dim"))
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case SearchStarted():
                self._header(event)
            case TrialStarted():
                self._running[event.number] = "starting"
            case TrialProgress():
                self._running[event.number] = _stage(event)
            case TrialFinished():
                self._over(event.number)
                self._print(self._finished(event))
            case TrialLost():
                self._running.pop(event.number, None) if event.again else self._over(event.number)
                then = "handed out again" if event.again else "given up"
                self._print(Text(f"{event.number:>4}  lost ({then}): {_brief(event.reason)}", style="red"))
            case FinalistScored():
                self._print(_validated(event.number, event.result))
            case FinalistFailed():
                said = f"{event.number:>4}  not validated: {_brief(event.error)}"
                self._print(Text(said, style="red"))

    def _header(self, event: SearchStarted) -> None:
        self._waiting, self._left = "waiting for a gang", event.trials - event.already
        round_, rules = event.round, event.round.rules
        self.rules, gang = rules, event.round.rules.gang
        where = f"{gang.ranks} {gang.device} rank" + ("s" if gang.ranks > 1 else "")
        self._print(Text(f"round {round_.name}: {event.trials} trials, {round_.max_concurrent} at a time, "
                         f"{where} each", style="bold"))  # fmt: skip
        caps = (
            f"{rules.artifact_bytes:,} bytes, train {rules.train_seconds:g} s, eval {rules.eval_seconds:g} s"
        )
        self._print(Text(f"rules {rules.name}: {caps}; store {event.store}"))
        if event.gang_seconds is not None:
            self._print(
                Text(f"budget: {event.gang_seconds / 3600:.2f} gang-hours, running trials counted whole")
            )
        if event.already or event.again:
            again = ", ".join(map(str, event.again)) or "none"
            self._print(Text(f"resumed: {event.already} trials finished before; handed out again: {again}"))
        self._print(Text(HEADINGS, style="dim"))

    def _over(self, number: int) -> None:
        self._running.pop(number, None)
        self._left -= 1
        if self._left <= 0:
            self._waiting = "scoring the finalists on validation"

    def _finished(self, event: TrialFinished) -> Text:
        result = event.result
        best = "" if event.best_bpb is None else f"{event.best_bpb:.4f} (#{event.best_number})"
        line = Text(f"{event.number:>4}  {result.name:<32} ")
        line.append(f"{result.status:<10}", style=STYLES[result.status])
        line.append(f" {_number(result.prequant_bpb)} {_number(result.bpb)} {self._bytes(result)}")
        line.append(f" {_seconds(result.train_seconds)} {_seconds(result.eval_seconds)}  {best}")
        if why := _why(result):
            line.append(f"\n      {why}", style="dim")
        return line

    def _bytes(self, result: Result) -> str:
        if result.artifact_bytes is None or self.rules is None:
            return f"{'-':>11} {'-':>6}"
        return (
            f"{result.artifact_bytes:>11,} {result.artifact_bytes / max(self.rules.artifact_bytes, 1):>6.1%}"
        )

    def _status(self) -> Text:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        running = "   ".join(f"#{number} {what}" for number, what in sorted(self._running.items()))
        return Text(f"{minutes}:{seconds:02d}  {running or self._waiting}", style="cyan",
                    no_wrap=True, overflow="ellipsis")  # fmt: skip

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)


def _stage(event: TrialProgress) -> str:
    metrics = event.metrics
    done = [name.removeprefix("stage_done/") for name in metrics if name.startswith("stage_done/")]
    if done:
        return f"{done[-1]} done"
    loss = f" loss {metrics['train_loss']:.3f}" if "train_loss" in metrics else ""
    return f"train {metrics.get('progress', 0.0):.0%}{loss}"


def _why(result: Result) -> str:
    if result.status == "failed":
        return _brief(result.error or "")
    return "; ".join(
        f"{broken.reason}: {'not a number' if broken.measured is None else f'{broken.measured:,.6g}'}"
        f", limit {broken.limit:,.6g}"
        for broken in result.infeasible
    )


def _validated(number: int, result: Result) -> Text:
    line = Text(f"{number:>4}  {result.name:<32} ")
    line.append("validated" if result.status == "ok" else result.status, style=STYLES[result.status])
    line.append(
        f"  select {_number(result.bpb).strip()}, validation {_number(result.validation_bpb).strip()}"
    )
    return line


def _number(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:>8.4f}"


def _seconds(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:>6.1f}s"


def _brief(text: str) -> str:
    """The last line of an error, which names it."""
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else ""
