"""The record of a search: each event goes to a local outbox first, and from there to MLflow when it can.

A recorder's calls write one line to a file and return; one background thread delivers the lines to
MLflow in order. So an MLflow outage neither blocks nor kills a search: it is said once, delivery is
tried again with growing pauses, and what is not delivered when the process ends is delivered the next
time the round is opened. A thread, and not a bounded drain inside each call, because MLflow's HTTP
client may hold its caller for a minute, and that minute belongs to the trials.

Only an outage is worth trying again. What MLflow *refuses* (an invalid name, a deleted run), and what we
cannot make sense of ourselves (a line that another version wrote), would fail for ever: it is said, with
the event, and passed over, so that it does not keep back what follows; the line stays in the outbox.

One outbox per round and store. Single trials (`pgolf run`, round "single") may run side by side, so
each takes the first free file; two searches of one round in one store are a mistake, and refused.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pgolf.errors import StoreError
from pgolf.formats.result import Result
from pgolf.rules import Rules
from services.leaderboard import SINGLE
from services.mlflow_client import address, artifact_root, check_usable, client_for
from services.mlflow_writer import MlflowWriter
from services.outbox import Event, Outbox

if TYPE_CHECKING:
    from pgolf.run import RunConfig

log = logging.getLogger(__name__)

REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST",
            "RESOURCE_ALREADY_EXISTS", "MALFORMED_REQUEST"}  # fmt: skip
FIRST_PAUSE_SECONDS = 1.0  # after the first failure; then twice as long each time
GATHER_SECONDS = 2.0  # progress reports are gathered this long into one request
LONGEST_PAUSE_SECONDS = 60.0  # between two attempts during an outage
FINISH_SECONDS = 120.0  # most that `finish` waits for a working MLflow


class Recorder:
    """Records one search, or single trials. Open with `Recorder.open`, end with `finish` (or `close`)."""

    def __init__(self, boxes: list[Outbox], search: str, writer_for: "WriterFactory") -> None:
        self._boxes, self._search, self._writer_for = boxes, search, writer_for
        self._writer: MlflowWriter | None = None
        self._wake = threading.Condition()
        self._urgent = self._retry_now = self._busy = self._closing = False
        self._pause = 0.0  # seconds until the next attempt; zero while MLflow answers
        self._outage = ""  # the last failure; empty while MLflow answers
        self._unranked: Event | None = None  # the last event after which ranks are to be brought up to date
        self._thread = threading.Thread(target=self._deliver_until_closed, name="mlflow-record", daemon=True)

    @staticmethod
    def open(
        round_name: str, store_dir: Path, tracking_uri: str | None, rules: Rules, resume: bool = False
    ) -> "Recorder":
        """Begin a search's record, or go on with the round's last one (`resume`).

        Raises:
            StoreError: if another process is recording a search of this round in this store.
            UserError: if the tracking URI is none that MLflow can record to. A server that does not
                answer is no error: the record waits for it.
        """
        check_usable(address(store_dir, tracking_uri))
        boxes = _claimed(Path(store_dir) / "outbox", round_name)
        past = [event["search"] for event in boxes[0].events() if event.get("event") == "opened"]
        goes_on = past and (resume or round_name == SINGLE)  # single trials share one parent run
        search = past[-1] if goes_on else uuid.uuid4().hex
        recorder = Recorder(boxes, search, WriterFactory(round_name, Path(store_dir), tracking_uri, rules))
        recorder._record("opened", rules=rules.plain())
        recorder._thread.start()
        return recorder

    # ------------------------------------------------------------------------------------- record

    @property
    def next_number(self) -> int:
        """One more than any trial number recorded here so far: for trials that no study numbers."""
        return 1 + max((e["number"] for e in self._boxes[0].events() if "number" in e), default=-1)

    def trial_started(self, number: int, config: "RunConfig", params: Mapping[str, Any]) -> None:
        """A trial was handed out: its whole config, and the parameters the sampler chose."""
        self._record("trial_started", number=number, name=config.label, config=config.plain(),
                     config_digest=config.digest, seed=config.seed, params=dict(params))  # fmt: skip

    def trial_progress(self, number: int, step: int, metrics: Mapping[str, float]) -> None:
        """One report of a running trial, with the keys of `Runtime.report`."""
        self._record("trial_progress", urgent=False, number=number, step=step,
                     metrics={name: float(value) for name, value in metrics.items()})  # fmt: skip

    def trial_finished(
        self, number: int, result: Result, attachments: Mapping[str, Path] | None = None
    ) -> None:
        """A trial's result; again with `validation_bpb` once it was validated.

        `attachments` are kept under their names (`certificate.json`, `ledger.json`, ...).
        """
        paths = {name: str(Path(path).absolute()) for name, path in (attachments or {}).items()}
        self._record("trial_finished", number=number, result=result.plain(), attachments=paths)

    def trial_lost(self, number: int, reason: str) -> None:
        """A trial ended without a result."""
        self._record("trial_lost", number=number, reason=reason)

    def finish(self, timeout_seconds: float = FINISH_SECONDS) -> None:
        """The search is over: draw its board and close its parent run; then `close`."""
        self._record("finished")
        self.close(timeout_seconds)

    def close(self, timeout_seconds: float = FINISH_SECONDS) -> None:
        """Stop recording. Waits for a working MLflow; what is undelivered then waits in the outbox."""
        if self._closing:
            return
        self.flush(timeout_seconds)
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(min(timeout_seconds, 5.0))
        waiting = [box for box in self._boxes if not box.empty]
        if waiting:
            log.warning(
                "MLflow has not got everything: the rest waits in %s and is written the next time this "
                "round is opened (%s)", waiting[0].path, self._outage or "out of time",
            )  # fmt: skip
        if not self._thread.is_alive():  # else it still may move the mark: the lock ends with the process
            for box in self._boxes:
                box.close()

    def flush(self, timeout_seconds: float = FINISH_SECONDS) -> bool:
        """Wait until MLflow has everything; False once it fails to answer or time runs out."""
        with self._wake:
            self._retry_now, self._outage = True, ""
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._outage or self._settled, timeout_seconds)
            return self._settled

    @property
    def _settled(self) -> bool:
        return not self._busy and self._unranked is None and all(box.empty for box in self._boxes)

    def _record(self, kind: str, /, *, urgent: bool = True, **fields: Any) -> None:
        with self._wake:
            event = {"event": kind, "time_ms": time.time_ns() // 1_000_000, "search": self._search, **fields}
            self._boxes[0].append(event)
            if urgent:
                self._urgent = True
                self._wake.notify_all()

    # ------------------------------------------------------------------------------------ deliver

    def _deliver_until_closed(self) -> None:
        while not self._closing:
            with self._wake:
                self._wake.wait_for(self._work_is_due, self._pause or GATHER_SECONDS)
                self._urgent, self._retry_now, self._busy = False, False, True
            try:
                for box in self._boxes:
                    self._deliver(box)
                self._bring_ranks_up_to_date()
                failure, self._pause = "", 0.0
            except Exception as error:  # nothing that goes wrong with a record may end a search
                failure = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                if not self._pause:
                    log.warning("MLflow does not take the record (%s); the search goes on and its record "
                                "waits in %s", failure, self._boxes[0].path)  # fmt: skip
                self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                self._writer = None  # whatever it believed about MLflow may no longer hold
            with self._wake:
                self._busy, self._outage = False, failure
                self._wake.notify_all()

    def _work_is_due(self) -> bool:
        """An outage's pause is not shortened by new events, only by `flush` and `close`."""
        return self._closing or self._retry_now or (self._urgent and not self._pause)

    def _deliver(self, box: Outbox) -> None:
        for mark, events in _gathered(list(box.pending())):
            if self._closing:
                return
            kind = events[0].get("event", "a line without its kind")
            done = self._passes(kind, events[0], partial(_write, self._writer_now(), events))
            if done and kind in ("opened", "trial_finished"):
                self._unranked = events[0]
            box.mark_delivered(mark)

    def _bring_ranks_up_to_date(self) -> None:
        if self._unranked is not None:
            event = self._unranked
            self._passes("the ranks after it", event, partial(self._writer_now().rank, event))
        self._unranked = None

    def _writer_now(self) -> MlflowWriter:
        """The writer. That none can be made is never an event's fault: it is an outage."""
        self._writer = self._writer or self._writer_for()
        return self._writer

    def _passes(self, what: str, event: Event, write: Callable[[], None]) -> bool:
        """Write; a fault of the event itself is said and passed over (False), an outage is raised."""
        try:
            write()
        except Exception as error:
            if is_outage(error):
                raise
            said = str(error).strip().splitlines()[:1] or [type(error).__name__]
            by = "MLflow refused" if isinstance(error, MlflowException) else f"{type(error).__name__} in"
            log.warning("%s %s of trial %s and it was passed over: %s", by, what, event.get("number", "-"),
                        said[0], exc_info=log.isEnabledFor(logging.DEBUG))  # fmt: skip
            return False
        return True


def amend(
    run_id: str, result: Result, attachments: Mapping[str, Path], rules: Rules, store_dir: Path,
    tracking_uri: str | None,
) -> None:  # fmt: skip
    """More of a trial that is on record: its certificate, with its new outcome and everybody's ranks.

    At once, and not by an outbox: no search waits for it, and whoever asked for it is told if it fails.
    """
    client = client_for(store_dir, tracking_uri)
    run = client.get_run(run_id)
    tags = run.data.tags
    round_name, _, number = tags["pgolf.trial"].rpartition("/")
    search = client.get_run(tags["mlflow.parentRunId"]).data.tags["pgolf.search"]
    event = {
        "event": "trial_finished", "time_ms": time.time_ns() // 1_000_000, "search": search, "number": int(number),
        "ended_ms": run.info.end_time,
        "result": result.plain(), "attachments": {name: str(path) for name, path in attachments.items()},
    }  # fmt: skip
    writer = WriterFactory(round_name, store_dir, tracking_uri, rules)()
    writer.trial_finished(event)
    writer.rank(event, draw=True)


def is_outage(error: Exception) -> bool:
    """Whether the same call may succeed later: no connection, a server's own fault, a locked database."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return isinstance(error, OSError | SQLAlchemyError)  # requests' exceptions are OSErrors


def _write(writer: MlflowWriter, events: list[Event]) -> None:
    match events[0]["event"]:
        case "opened":
            writer.opened(events[0])
        case "trial_started":
            writer.trial_started(events[0])
        case "trial_progress":
            writer.trial_progress(events)
        case "trial_finished":
            writer.trial_finished(events[0])
        case "trial_lost":
            writer.trial_lost(events[0])
        case "finished":
            writer.finished(events[0])
        case unknown:
            raise AssertionError(f"no event is called {unknown}")


class WriterFactory:
    """Makes the writer in the thread that uses it: creating MLflow's database takes seconds."""

    def __init__(self, round_name: str, store_dir: Path, tracking_uri: str | None, rules: Rules) -> None:
        self.round_name, self.store_dir, self.tracking_uri, self.rules = (
            round_name,
            store_dir,
            tracking_uri,
            rules,
        )

    def __call__(self) -> MlflowWriter:
        root = artifact_root(self.store_dir, address(self.store_dir, self.tracking_uri))
        return MlflowWriter(client_for(self.store_dir, self.tracking_uri), self.round_name, self.rules, root)


def _gathered(pending: list[tuple[int, Event]]) -> Iterator[tuple[int, list[Event]]]:
    """Events to be written together, with the mark after them: consecutive progress of one trial."""

    def group(item: tuple[int, Event]) -> tuple[Any, ...]:
        mark, event = item
        return (
            ("trial_progress", event.get("search"), event.get("number"))
            if event.get("event") == "trial_progress"
            else (mark,)
        )

    for _, items in groupby(pending, group):
        together = list(items)
        yield together[-1][0], [event for _, event in together]


def _claimed(directory: Path, round_name: str) -> list[Outbox]:
    """The outbox to write to, then any other of the round that was left undelivered by its writer."""
    own: Outbox | None = None
    leftovers: list[Outbox] = []
    for index in range(1, 1000):
        path = directory / (f"{round_name}.jsonl" if index == 1 else f"{round_name}-{index}.jsonl")
        if own is not None and not path.exists():
            return [own, *leftovers]
        try:
            box = Outbox(path)
        except BlockingIOError:
            if round_name != SINGLE:
                rule, way_out = (
                    "a round is searched by one process per store",
                    "wait for it, or give another --store",
                )
                raise StoreError(rule, f"{round_name}: {path} is in use", way_out) from None
            continue
        if own is None:
            own = box
        elif box.empty:
            box.close()
        else:
            leftovers.append(box)
    raise StoreError(
        "at most 999 trials record at the same time in one store", str(directory), "use another --store"
    )
