"""Claims about what a gate leaves: a table, JUnit XML, a step summary, annotations, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from io import StringIO
from pathlib import Path

import pytest
from junitparser import JUnitXml
from rich.console import Console

from gistbench.cli import main
from gistbench.gate.findings import Finding, GateReport, Verdict, verdict_of
from gistbench.gate.github import MOST_ANNOTATIONS, tell_github
from gistbench.gate.junit import junit
from gistbench.gate.shown import markdown, table
from gistbench.storage import read_json
from tests.fixtures.synthetic_run import SyntheticRun

ROOT = Path(__file__).resolve().parents[2]
RUN = SyntheticRun(num_samples=100, hits={"gist": 95, "full": 40, "swapped": 0, "none": 0})
WORSE = RUN.but(hits={"gist": 70, "full": 40, "swapped": 0, "none": 0})
FEW = RUN.but(num_samples=20, hits={"gist": 19, "full": 8, "swapped": 0, "none": 0})
HOSTILE = "</td>|<script>alert(1)</script>\n::error::x\x00\u202e%0A"


def report(*verdicts: Verdict, text: str = "why") -> GateReport:
    findings = tuple(
        Finding(check="accuracy", subject=f"arm {number} on {text}", verdict=verdict, text=text)
        for number, verdict in enumerate(verdicts)
    )
    verdict = verdict_of(findings)
    return GateReport(
        run="results/x",
        baseline="main, accepted 2030-01-01",
        policy="the default policy",
        verdict=verdict,
        exit_code=0,
        headline="what was found",
        findings=findings,
    )


def test_a_regression_outweighs_a_refusal_and_a_refusal_what_is_open() -> None:
    assert report("pass", "not compared").verdict == "pass"
    assert report("pass", "inconclusive").verdict == "inconclusive"
    assert report("inconclusive", "refused", "pass").verdict == "refused"
    assert report("inconclusive", "refused", "regression").verdict == "regression"
    assert report("not compared").verdict == "refused"  # nothing was compared: no pass


def test_junit_tells_failures_from_what_is_not_known() -> None:
    text = junit(report("pass", "regression", "refused", "inconclusive", "not compared"))
    root = ElementTree.fromstring(text)
    counts = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "2", "skipped": "1"}
    assert [suite.name for suite in JUnitXml.fromstring(text.encode())] == ["accuracy"]


def test_hostile_text_stays_text() -> None:
    hostile = report("regression", "refused", text=HOSTILE)
    ElementTree.fromstring(junit(hostile))
    shown = markdown(hostile)
    assert "<script>" not in shown and "\u202e" not in shown and "\x00" not in shown
    (row,) = [line for line in shown.splitlines() if "arm 0" in line]
    assert row.count(" | ") == 5  # no cell was broken
    lines = tell_github(hostile, {"GITHUB_ACTIONS": "true"})
    assert len(lines) == 2
    assert all("\n" not in line and line.startswith("::error title=") for line in lines)
    assert "%250A" in lines[0]  # a percent sign is data


def test_github_is_told_only_on_github(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    assert tell_github(report("regression"), {}) == []
    lines = tell_github(
        report("regression", "inconclusive", "pass"),
        {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)},
    )
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    text = summary.read_text(encoding="utf-8")
    assert "gistbench gate: REGRESSION" in text and "1 passed or not compared" in text
    tell_github(report("pass"), {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text(encoding="utf-8").startswith(text)  # appended, not replaced


def test_annotations_are_few_and_say_what_is_left_out() -> None:
    verdicts: list[Verdict] = ["regression"] * 30
    lines = tell_github(report(*verdicts), {"GITHUB_ACTIONS": "true"})
    assert len(lines) == MOST_ANNOTATIONS + 1
    assert "20 more are in the summary" in lines[-1]


def test_the_table_shows_what_failed_and_only_on_request_what_passed() -> None:
    def printed(everything: bool) -> str:
        console = Console(file=StringIO(), width=120)
        console.print(table(report("pass", "regression"), everything=everything))
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    assert "arm 0" not in printed(False) and "arm 1" in printed(False)
    assert "arm 0" in printed(True)
    assert "REGRESSION: what was found" in printed(False)


# ---------------------------------------------------------------------------- the command itself


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def accepted(run: SyntheticRun, tmp_path: Path) -> str:
    folder = run.write(tmp_path / "a")
    assert command("baseline", "accept", folder, "--name", "m", "--reason", "first") == 0
    return "baselines/m.json"


@pytest.mark.parametrize(
    ("before", "after", "code"), [(RUN, RUN, 0), (RUN, WORSE, 1), (RUN, FEW, 2), (FEW, FEW, 3)]
)
def test_each_verdict_has_its_exit_code(
    tmp_path: Path, before: SyntheticRun, after: SyntheticRun, code: int
) -> None:
    policy = tmp_path / "policy.yaml"  # of 20 prompts, compression and accuracy decide nothing
    policy.write_text("criteria: {keep: false}", encoding="utf-8")
    baseline = accepted(before, tmp_path)
    run = after.write(tmp_path / "b")
    assert command("gate", run, "--baseline", baseline, "--policy", policy) == code
    found = read_json(run / "gate.json", GateReport)
    assert found.exit_code == code
    assert JUnitXml.fromfile(str(run / "gate.xml")).tests >= 1
    assert found.verdict.upper() in (run / "gate.md").read_text(encoding="utf-8")


def test_a_refusal_is_one_line_and_is_told_to_github_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    run = RUN.write(tmp_path / "run")
    assert command("gate", run, "--baseline", "baselines/none.json") == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("gistbench: there is no baseline")
    assert out.startswith("::error title=gistbench gate::there is no baseline")
    assert JUnitXml.fromfile(str(run / "gate.xml")).errors == 1


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    assert command("gate", folder, "--baseline", accepted(RUN, tmp_path)) == 2
    assert list(folder.iterdir()) == []


def test_several_repeats_follow_one_flag(tmp_path: Path) -> None:
    created = {f"r{n}": f"2030-01-01T00:0{n}:00+00:00" for n in range(3)}
    runs = [
        RUN.but(run_changes={"created": time}).write(tmp_path / name)
        for name, time in created.items()
    ]
    accept = ("baseline", "accept", runs[0], "--name", "m", "--reason", "x")
    assert command(*accept, "--repeats", *runs[1:]) == 0
    text = Path("baselines/m.json").read_text(encoding="utf-8")
    assert all(time in text for time in created.values())


def test_a_gate_needs_no_torch(tmp_path: Path) -> None:
    baseline, run = accepted(RUN, tmp_path), RUN.write(tmp_path / "b")
    code = (
        "import sys\nfrom gistbench.cli import main\n"
        f"try: main(['gate', {str(run)!r}, '--baseline', {baseline!r}])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'lm_eval'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )
