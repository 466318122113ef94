"""RUN means one trial or is an error that says what it could have meant."""

import pytest

from pgolf.errors import StoreError
from services.leaderboard import Row, read_board
from services.runs import find, resolve
from services.tracking import Recorder
from tests.services.samples import SMALL, FakeConfig, make_result


def row(run_id: str, name: str, rank: int, round_name: str = "laptop") -> Row:
    return Row(run_id=run_id, name=name, rank=rank, round=round_name, recipe="r", status="ok", feasible=True)


ROWS = [
    row("8c0f2e11", "laptop_late-aaaa1111", 1),
    row("8c99ab00", "laptop_late-bbbb2222", 2),
    row("77aa0000", "laptop_late-bbbb2222", 3),  # another seed of the same config
]


@pytest.mark.parametrize(
    ("run", "run_id"),
    [
        ("#1", "8c0f2e11"),
        ("laptop#3", "77aa0000"),
        ("8c0f2e11", "8c0f2e11"),
        ("8c9", "8c99ab00"),
        ("laptop_late-aaaa1111", "8c0f2e11"),
        ("laptop_late-a", "8c0f2e11"),
    ],
)
def test_a_rank_an_id_a_name_and_their_unique_beginnings_mean_one_run(run, run_id):
    assert find(run, ROWS).run_id == run_id


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("8c", "2 answer to it"),
        ("laptop_late", "3 answer to it"),
        ("laptop_late-bbbb2222", "8c99ab00"),
        ("laptop_late-aaab1111", "did you mean 'laptop_late-aaaa1111'"),
        ("#4", "from #1 to #3"),
        ("#0", "from #1 to #3"),
        ("#x", "from #1 to #3"),
        ("labtop#1", "did you mean 'laptop'"),
        ("", "known: laptop_late-aaaa1111"),
    ],
)
def test_what_means_none_or_several_is_an_error_that_names_the_way_out(run, says):
    with pytest.raises(StoreError, match=says) as refused:
        find(run, ROWS)
    assert len(str(refused.value).splitlines()) <= 3


def test_a_rank_alone_is_of_the_only_search_whatever_single_trials_stand_beside_it():
    rows = [row("0011", "tiny-cccc", 1, "single"), *ROWS]
    assert find("#1", rows).run_id == "8c0f2e11"
    assert find("single#1", rows).run_id == "0011"
    assert find("#1", rows[:1]).run_id == "0011"


def test_a_rank_needs_its_round_where_several_were_searched_and_the_error_names_each():
    rows = [*ROWS, row("0011", "tiny-cccc", 1, "single"), row("0022", "tiny-dddd", 1, "tiny")]
    with pytest.raises(StoreError, match="say laptop#2, tiny#2 or single#2"):
        find("#2", rows)
    assert find("tiny#1", rows).run_id == "0022"


def test_a_recorded_run_comes_back_as_its_result_and_a_file_as_its_own(store_dir, tmp_path):
    recorder = Recorder.open("laptop", store_dir, None, SMALL)
    result = make_result(FakeConfig(seed=3), bpb=1.87654321, validation_bpb=1.9)
    recorder.trial_finished(0, result)
    recorder.trial_started(1, FakeConfig(model={"layers": 5}), {})
    recorder.finish()
    first, second = read_board(store_dir)
    assert resolve("#1", store_dir) == (result, first.run_id)
    assert resolve(first.run_id[:10], store_dir)[0] == result
    with pytest.raises(StoreError, match="is running"):
        resolve(second.run_id, store_dir)
    result.write(tmp_path / "out" / "result.json")
    assert resolve(str(tmp_path / "out"), tmp_path / "no_store") == (result, None)
    assert resolve(str(tmp_path / "out" / "result.json"), tmp_path / "no_store") == (result, None)
    assert not (tmp_path / "no_store").exists()


def test_a_result_file_that_is_missing_or_cut_short_is_said(tmp_path):
    with pytest.raises(StoreError, match="a file that exists"):
        resolve(str(tmp_path / "result.json"), tmp_path)
    (tmp_path / "result.json").write_text('{"name": "x"')
    with pytest.raises(StoreError, match=r"readable result\.json"):
        resolve(str(tmp_path / "result.json"), tmp_path)
