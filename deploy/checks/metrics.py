"""Compares every metric that a rule or a dashboard names with those that exist.

What exists: the sidecar's own (docs/METRICS.md, which the suite compares with the program), the alert bridge's, what the
recording rules make, and a short list of other programs' metrics below.
"""

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"

FOREIGN = {
    "up", "ALERTS",
    "alertmanager_notifications_failed_total",
    "node_filesystem_avail_bytes", "node_filesystem_size_bytes", "node_filesystem_files", "node_filesystem_files_free",
    "node_load1", "node_load5", "node_load15", "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes",
}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
# Labels in these parentheses are not metrics.
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
NAME = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)\b(?!\s*\()")


def named_in(expression):
    """The metrics that a PromQL expression reads."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = GROUPING.sub(" ", bare)
    return {name for name in NAME.findall(bare) if name.lower() not in WORDS}


def expressions(node):
    """All `expr` and variable queries of a dashboard."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "expr":
                yield value
            elif key == "query" and isinstance(value, str):
                yield from re.findall(r"label_values\(([^,]+),", value)
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def own():
    """The sidecar's metrics, with the series that a histogram exposes."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/METRICS.md").read_text(), re.M)
    if not rows:
        sys.exit("metrics: docs/METRICS.md: no metric found; was its form changed?")
    names = {name for name, _ in rows}
    return names | {name + end for name, kind in rows if kind == "histogram" for end in ("_bucket", "_sum", "_count")}


def of_the_bridge():
    """The alert bridge's metrics, by their names in its source."""
    return set(re.findall(r'"(alert_bridge_\w+)"', (ROOT / "src/alerts/metrics.rs").read_text()))


def main():
    rules = [
        (path, rule)
        for path in sorted((MONITORING / "prometheus/rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    known = own() | of_the_bridge() | FOREIGN | {rule["record"] for _, rule in rules if "record" in rule}
    uses = [(path, rule["expr"]) for path, rule in rules]
    for path in sorted((MONITORING / "grafana/dashboards").glob("*.json")):
        uses += [(path, expression) for expression in expressions(json.loads(path.read_text()))]

    faults = [
        f"metrics: {path.relative_to(ROOT)}: no such metric {name} in: {expression}"
        for path, expression in uses
        for name in sorted(named_in(expression) - known)
    ]
    if faults:
        sys.exit("\n".join(faults))
    print(f"metrics: {len(uses)} expressions name only metrics that exist")


if __name__ == "__main__":
    main()
