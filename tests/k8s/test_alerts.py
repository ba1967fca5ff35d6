"""Every alert fires when it should and only then, and somebody who is woken finds what to do."""

import re
from pathlib import Path

import pytest
import yaml

from tests.k8s import (
    alerts_of_application,
    alerts_of_broker,
    alerts_of_nodes,
    alerts_of_sessions,
)
from tests.k8s.alert_case import Case
from tests.k8s.tools import ROOT, Manifest, alerts, rule_groups, run

CASES = (
    *alerts_of_nodes.CASES,
    *alerts_of_sessions.CASES,
    *alerts_of_broker.CASES,
    *alerts_of_application.CASES,
)
RUNBOOK = "hub/docs/runbook.md"


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules without the wrapping that is the operator's."""
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": rule_groups()}))
    return file


def promtool_tests(case: Case) -> list[Manifest]:
    """Returns promtool's tests of a case: one where the alert fires with its labels and text,
    and one where it stays calm."""
    rule = alerts()[case.alert]
    firing = {
        "exp_labels": dict(case.labels) | rule["labels"],
        "exp_annotations": rule["annotations"] | {"summary": case.summary},
    }
    return [
        {
            "name": f"{case.alert} {word}",
            "interval": "15s",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "alert_rule_test": [
                {"alertname": case.alert, "eval_time": case.at, "exp_alerts": expected}
            ],
        }
        for word, series, expected in (("fires", case.fires, [firing]), ("calm", case.calm, []))
    ]


def test_the_rules_are_what_prometheus_reads(rules_file: Path) -> None:
    """Syntax and templates, by Prometheus' own tool."""
    ended = run("promtool", "check", "rules", rules_file)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    """One each: a new alert fails here until it is shown to fire."""
    assert sorted(case.alert for case in CASES) == sorted(alerts())


def test_every_alert_fires_when_it_should_and_not_when_it_only_looks_so(tmp_path: Path) -> None:
    """By promtool, which evaluates the rules over made-up series and names each that differs.

    Each case is judged beside the other rules of its group alone: promtool evaluates all that it
    has, every time.
    """
    files = []
    for group in rule_groups():
        names = {rule["alert"] for rule in group["rules"]}
        rules, file = (tmp_path / f"{group['name']}-{kind}.yaml" for kind in ("rules", "tests"))
        rules.write_text(yaml.safe_dump({"groups": [group]}))
        tests = [test for case in CASES if case.alert in names for test in promtool_tests(case)]
        assert len(tests) == 2 * len(names)
        every = {"rule_files": [str(rules)], "evaluation_interval": "30s", "tests": tests}
        file.write_text(yaml.safe_dump(every))
        files.append(file)
    ended = run("promtool", "test", "rules", *files)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def runbook() -> dict[str, str]:
    """The runbook's entries by their anchors, which are the headings in lower case."""
    parts = re.split(r"^### (.+)\n", (ROOT / RUNBOOK).read_text(), flags=re.MULTILINE)
    return {head.lower(): body for head, body in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("name", sorted(case.alert for case in CASES))
def test_an_alert_leads_to_its_entry_in_the_runbook(name: str) -> None:
    """Under its own name, which says what it means and what to do."""
    assert alerts()[name]["annotations"]["runbook_url"] == f"{RUNBOOK}#{name.lower()}"
    entry = runbook()[name.lower()]
    assert re.search(r"^\*\*Means\*\*", entry, flags=re.MULTILINE), entry
    assert re.search(r"^\*\*Do\*\*", entry, flags=re.MULTILINE), entry


def test_the_runbook_has_no_entry_for_an_alert_that_is_gone() -> None:
    """An entry that no alert leads to is out of date."""
    assert runbook().keys() == {name.lower() for name in alerts()}
