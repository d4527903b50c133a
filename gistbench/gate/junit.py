"""A gate's report as JUnit XML, which continuous integration shows beside other tests."""

from __future__ import annotations

from io import BytesIO

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from gistbench.gate.findings import Check, Finding, GateReport
from gistbench.gate.shown import shown_text
from gistbench.report.page.visible_text import visible


def junit(report: GateReport) -> str:
    """The XML: a suite for each kind of check, a case for each finding.

    A regression is a failure. What was refused or stayed inconclusive is an error: nothing is
    wrong that is known of, and nothing is known to be right. What had nothing to be compared with
    is skipped. A gate that could not begin is one case.
    """
    xml = JUnitXml("gistbench gate")
    suites: dict[Check, TestSuite] = {}
    for finding in report.findings:
        suite = suites.setdefault(finding.check, TestSuite(finding.check))
        suite.add_testcase(_case(finding))
    if not report.findings:
        case = TestCase("comparable", classname="gistbench.gate")
        case.result = [Error(visible(report.headline), report.verdict)]
        only = TestSuite("gate")
        only.add_testcase(case)
        xml.add_testsuite(only)
    for suite in suites.values():
        xml.add_testsuite(suite)
    xml.update_statistics()
    buffer = BytesIO()
    xml.write(buffer, pretty=True)
    return buffer.getvalue().decode("utf-8")


def _case(finding: Finding) -> TestCase:
    case = TestCase(
        visible(finding.subject), classname=f"gistbench.gate.{finding.check.replace(' ', '_')}"
    )
    text = shown_text(finding)
    if finding.verdict == "regression":
        case.result = [Failure(text, finding.verdict)]
    elif finding.verdict in ("refused", "inconclusive"):
        case.result = [Error(text, finding.verdict)]
    elif finding.verdict == "not compared":
        case.result = [Skipped(text)]
    else:
        case.system_out = text
    return case
