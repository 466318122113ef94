"""An event is in the outbox before its append returns, and no byte at which a writer is killed loses it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.errors import StoreError
from services.outbox import Outbox

EVENTS = [{"event": "a", "text": "né ☃\n"}, {"event": "b", "n": [1, 2.5, None]}, {"event": "c", "nan": True}]


def filled(path: Path) -> Outbox:
    box = Outbox(path)
    for event in EVENTS:
        box.append(event)
    return box


def test_events_come_back_in_order_and_only_until_they_are_marked_delivered(tmp_path):
    box = filled(tmp_path / "o.jsonl")
    marks = [mark for mark, _ in box.pending()]
    assert [event for _, event in box.pending()] == EVENTS
    box.mark_delivered(marks[1])
    assert [event for _, event in box.pending()] == EVENTS[2:]
    assert not box.empty
    box.mark_delivered(marks[2])
    assert box.empty
    assert not list(box.pending())
    assert list(box.events()) == EVENTS


def test_the_mark_outlives_the_writer(tmp_path):
    box = filled(tmp_path / "o.jsonl")
    box.mark_delivered(next(box.pending())[0])
    box.close()
    assert [event for _, event in Outbox(tmp_path / "o.jsonl").pending()] == EVENTS[1:]


def test_a_file_cut_at_any_byte_keeps_every_whole_event_and_takes_new_ones(tmp_path):
    box = filled(tmp_path / "o.jsonl")
    box.close()
    data = (tmp_path / "o.jsonl").read_bytes()
    ends = [i for i in range(1, len(data) + 1) if data[i - 1 : i] == b"\n"]
    for cut in range(len(data) + 1):
        path = tmp_path / f"cut{cut}.jsonl"
        path.write_bytes(data[:cut])
        mended = Outbox(path)
        whole = sum(end - 1 <= cut for end in ends)  # a line is whole without its newline, too
        assert list(mended.events()) == EVENTS[:whole]
        mended.append({"event": "new"})
        assert list(mended.events()) == [*EVENTS[:whole], {"event": "new"}]
        mended.close()


def test_a_writer_killed_while_it_writes_loses_nothing_it_was_told_is_written(tmp_path):
    code = (
        "import sys; from pathlib import Path; from services.outbox import Outbox\n"
        f"box = Outbox(Path({str(tmp_path / 'o.jsonl')!r}))\n"
        "for n in range(10**9):\n"
        "    box.append({'n': n, 'pad': 'x' * (n % 5000)}); sys.stdout.write(f'{n}\\n'); sys.stdout.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= 400:
            break
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    acknowledged = max([acknowledged, *map(int, rest)])
    numbers = [event["n"] for event in Outbox(tmp_path / "o.jsonl").events()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > acknowledged


def test_one_writer_per_file_until_it_closes(tmp_path):
    box = Outbox(tmp_path / "o.jsonl")
    with pytest.raises(BlockingIOError):
        Outbox(tmp_path / "o.jsonl")
    box.close()
    box.close()
    Outbox(tmp_path / "o.jsonl").close()


@pytest.mark.parametrize("mark", ["", "12x", "-3", "99999999"])
def test_a_damaged_mark_means_deliver_again_not_deliver_never(tmp_path, mark):
    filled(tmp_path / "o.jsonl").close()
    (tmp_path / "o.delivered").write_text(mark)
    assert [event for _, event in Outbox(tmp_path / "o.jsonl").pending()] == EVENTS


def test_a_damaged_line_in_the_middle_is_named_not_skipped(tmp_path):
    (tmp_path / "o.jsonl").write_text(json.dumps(EVENTS[0]) + "\n{broken\n" + json.dumps(EVENTS[1]) + "\n")
    with pytest.raises(StoreError, match="one JSON object"):
        list(Outbox(tmp_path / "o.jsonl").events())


def test_a_half_written_event_is_not_read_while_its_append_runs(tmp_path):
    box = filled(tmp_path / "o.jsonl")
    with (tmp_path / "o.jsonl").open("ab") as other:
        other.write(b'{"event": "ha')
    assert [event for _, event in box.pending()] == EVENTS
