"""Prints the dashboards' queries as recording rules, so that promtool parses them; refuses what Grafana would not show."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "deploy/monitoring/grafana/dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}


def main():
    rules, faults, uids = [], [], set()
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
