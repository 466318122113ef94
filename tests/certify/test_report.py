"""The certificate: what it says, and that its digest is of exactly that."""

import json

import pytest

from pgolf.certify.report import as_text, is_signed, read_report, report_of
from pgolf.certify.verdict import Rule, Verdict, convicted
from pgolf.cli import main

RULE = Rule("L3", "answers_are_distributions", "normalize")
GOOD = RULE.judged(True, "they sum to one within 1e-9", n=100)
BAD = RULE.judged(False, "one is 0.3 away", n=100, worst=float("inf"))
NONE = RULE.lacks("nothing that predicts")


def test_a_verdict_is_a_value():
    assert GOOD.holds and not GOOD.convicts and GOOD.remedy == ""
    assert BAD.convicts and BAD.remedy == "normalize"
    assert NONE.holds is None and not NONE.convicts
    assert convicted([GOOD, BAD]) and not convicted([GOOD, NONE])
    assert (
        Verdict("L3", "answers_are_distributions", True, "they sum to one within 1e-9", "", {"n": 100})
        == GOOD
    )


def test_what_was_kept_is_read_as_it_was_signed_or_not_at_all(tmp_path, capsys, monkeypatch):
    file = tmp_path / "certificate.json"

    def certify() -> int:
        monkeypatch.setattr("sys.argv", ["pgolf", "certify", str(file)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    report = report_of([GOOD, BAD], validation_bpb=1.25)
    file.write_text(json.dumps(report))
    assert read_report(file) == report
    assert certify() == 1
    assert "certificate fails" in capsys.readouterr().out
    file.write_text(json.dumps(report_of([GOOD])))
    assert certify() == 0
    for forged in (json.dumps({**report, "verdict": "holds"}), json.dumps(report)[:-9], json.dumps([report])):
        file.write_text(forged)
        assert certify() == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 3


@pytest.mark.parametrize(("verdict", "word", "all_of_it"), [
    (GOOD, "holds", "holds"), (BAD, "FAILS", "fails"), (NONE, "n/a", "holds"),
])  # fmt: skip
def test_a_report_says_it_in_json_and_in_lines(verdict, word, all_of_it):
    report = report_of([verdict], validation_bpb=1.25)
    assert report["verdict"] == all_of_it
    assert report["rules"]["L3"]["holds"] is verdict.holds
    assert json.loads(json.dumps(report)) == report
    text = as_text(report)
    assert f"certificate {all_of_it}" in text
    assert verdict.evidence in text
    assert word in text
    assert ("way out: normalize" in text) == verdict.convicts
    assert "1.2500 bits per byte" in text


def test_the_digest_is_of_all_that_is_said():
    report = report_of([GOOD], artifact_sha256="ab" * 32)
    assert is_signed(report)
    for change in ({"verdict": "fails"}, {"artifact_sha256": "ac" * 32}, {"rules": {}}):
        assert not is_signed({**report, **change})
    assert report["digest"] != report_of([BAD], artifact_sha256="ab" * 32)["digest"]


def test_another_failure_fails_the_report():
    report = report_of([GOOD], broken=["the text that came back is another"])
    assert report["verdict"] == "fails"
    assert "came back is another" in as_text(report)
