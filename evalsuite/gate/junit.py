"""A gate's tests as JUnit XML, which CI systems show."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from evalsuite.files import write_text
from evalsuite.gate.decide import Verdict


def write_junit(path: Path, verdict: Verdict) -> None:
    """Write one test case per figure, and a failure with its sentence for one that does not hold."""
    counts = {"tests": str(len(verdict.tests)), "failures": str(len(verdict.fell)), "errors": "0"}
    name = f"{verdict.candidate} against {verdict.baseline}"
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    for test in verdict.tests:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "evalsuite.gate", "name": test.title})
        if test.holds:
            ElementTree.SubElement(case, "system-out").text = test.sentence
        else:
            ElementTree.SubElement(case, "failure", {"message": test.sentence})
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")
