"""Checks what promtool does not: each alert is described in both languages, is in both runbooks, and is tested firing and silent."""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/monitoring/prometheus"
RUNBOOKS = ["docs/OPERATIONS.md", "docs/zh-CN/OPERATIONS.md"]
VALUE = re.compile(r"\$(?:value|labels\.\w+)(?: \| \w+)?")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def alerts():
    """Name and severity of each alert, with its annotations."""
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield rule["alert"], rule["labels"].get("severity"), rule["annotations"]


def tested():
    """What the unit tests expect: (alert, severity) that fire, and alerts that are silent at some time."""
    firing, silent = set(), set()
    for path in sorted((PROMETHEUS / "tests").glob("*.test.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                for expected in case["exp_alerts"]:
                    firing.add((case["alertname"], expected["exp_labels"]["severity"]))
                if not case["exp_alerts"]:
                    silent.add(case["alertname"])
    return firing, silent


def main():
    headings = {}
    for path in RUNBOOKS:
        file = ROOT / path
        if not file.is_file():
            sys.exit(f"alerts: {path} is missing")
        headings[path] = set(re.findall(r"^#+ (\w+)$", file.read_text(), re.M))
    firing, silent = tested()

    faults, count = [], 0
    for name, severity, annotations in alerts():
        count += 1
        if severity not in ("critical", "warning"):
            faults.append(f"{name}: severity {severity} has no route")
        for what in ("summary", "description"):
            english, chinese = annotations.get(what, ""), annotations.get(f"{what}_zh", "")
            if not english or CHINESE.search(english):
                faults.append(f"{name} ({severity}): no {what} in English")
            if not CHINESE.search(chinese):
                faults.append(f"{name} ({severity}): no {what}_zh in Chinese")
            if differing := set(VALUE.findall(english)) ^ set(VALUE.findall(chinese)):
                faults.append(f"{name} ({severity}): {what} and {what}_zh differ in {', '.join(sorted(differing))}")
        link = "{{ $externalLabels.runbook }}#" + name.lower()
        if annotations.get("runbook_url") != link:
            faults.append(f"{name} ({severity}): runbook_url is not {link}")
        faults += [f"{name}: {path} has no section of that name" for path, names in headings.items() if name not in names]
        if (name, severity) not in firing:
            faults.append(f"{name} ({severity}): no test sees it fire")
        if name not in silent:
            faults.append(f"{name}: no test sees it silent")
    if faults:
        sys.exit("\n".join(f"alerts: {fault}" for fault in dict.fromkeys(faults)))
    print(f"alerts: {count} described in both languages, in both runbooks, tested firing and silent")


if __name__ == "__main__":
    main()
