"""Prints the dashboards' queries as recording rules, so that promtool parses them.

Refuses what Grafana would not show, and a threshold at another figure than the alert on the same metric has.
"""

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "deploy/monitoring/grafana/dashboards"
RULES = ROOT / "deploy/monitoring/prometheus/rules"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
COLOURS = {"warning": "orange", "critical": "red"}


def limits():
    """For each metric that a rule compares with one figure: the figure by the colour of the rule's severity."""
    found = {}
    for path in RULES.glob("*.yml"):
        for rule in (rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]):
            compared = re.fullmatch(r"([\w:]+) >=? ([\d.]+)", rule["expr"])
            if compared and "alert" in rule:
                found.setdefault(compared[1], {})[COLOURS[rule["labels"]["severity"]]] = float(compared[2])
    return found


def thresholds(panel):
    """The panel's figures by colour; the first step has no figure: it holds below the others."""
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
    return {step["color"]: step["value"] for step in steps if step["value"] is not None}


def main():
    rules, faults, uids, alerting = [], [], set(), limits()
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        variables = {variable["name"] for variable in board["templating"]["list"]}
        if board["uid"] in uids:
            faults.append(f"{path.name}: uid {board['uid']} is taken")
        uids.add(board["uid"])
        ids = [panel["id"] for panel in board["panels"]]
        if len(ids) != len(set(ids)):
            faults.append(f"{path.name}: two panels share an id")
        for panel in board["panels"]:
            place = panel["gridPos"]
            if place["x"] + place["w"] > 24:
                faults.append(f"{path.name}: {panel['title']} is wider than the page")
            if panel["type"] == "row":
                continue
            if not panel.get("description") or not panel["targets"]:
                faults.append(f"{path.name}: {panel['title']} has no description or no query")
            asked = " ".join(target["expr"] for target in panel["targets"])
            for metric in alerting.keys() & set(re.findall(r"[\w:]+", asked)):
                if (present := thresholds(panel)) != alerting[metric]:
                    faults.append(f"{path.name}: {panel['title']} has {present}, and the rules on {metric} {alerting[metric]}")
            for target in panel["targets"]:
                if target["datasource"] != DATASOURCE:
                    faults.append(f"{path.name}: {panel['title']} asks a data source that is not provisioned")
                query = target["expr"].replace("$__rate_interval", "1m")
                if unknown := set(re.findall(r"\$(\w+)", query)) - variables:
                    faults.append(f"{path.name}: {panel['title']} uses ${', $'.join(unknown)}, which is not defined")
                rules.append({"record": f"query:{len(rules)}", "expr": query})
    if faults:
        sys.exit("\n".join(f"dashboards: {fault}" for fault in faults))
    # JSON is YAML.
    json.dump({"groups": [{"name": "dashboards", "rules": rules}]}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
