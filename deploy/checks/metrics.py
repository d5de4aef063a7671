"""Compares every metric that a rule or a dashboard names with those that exist.

What exists: the sidecar's own (src/telemetry/metric_names.rs, the one place that names them; docs/METRICS.md must list the
same), what the recording rules make, and a short list of other programs' metrics below.
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
    "node_load5", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes",
}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
# Labels in these parentheses are no metrics.
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
    source = (ROOT / "src/telemetry/metric_names.rs").read_text()
    found = re.findall(r'"((?:sidecar|agent|process)_\w+)"\s+Kind::(\w+)', source)
    if not found:
        sys.exit("metrics: src/telemetry/metric_names.rs: no metric found; was its form changed?")
    names = {name for name, _ in found}
    documented = (ROOT / "docs/METRICS.md").read_text()
    if missing := sorted(name for name in names if f"`{name}`" not in documented):
        sys.exit(f"metrics: docs/METRICS.md lacks {', '.join(missing)}")
    return names | {name + end for name, kind in found if kind == "Histogram" for end in ("_bucket", "_sum", "_count")}


def main():
    rules = [
        (path, rule)
        for path in sorted((MONITORING / "prometheus/rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    known = own() | FOREIGN | {rule["record"] for _, rule in rules if "record" in rule}
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
