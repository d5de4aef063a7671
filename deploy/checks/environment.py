"""Compares nvidia-sidecar.env.example with the table in docs/CONFIGURATION.md: every variable, at its default."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The key is the one value that everybody must set; the state file's place is the unit's.
OWN = {"SIDECAR_API_KEY": "nvapi-REPLACE_ME", "SIDECAR_STATE_FILE": "/var/lib/nvidia-sidecar/state"}


def plain(default):
    """A default as a variable writes it: a list without its brackets, nothing for none."""
    return "" if default == "none" else default.strip("`\"[]{}").replace(", ", ",")


def main():
    table = (ROOT / "docs/CONFIGURATION.md").read_text()
    keys = re.findall(r"^\| `\w+` \| `(SIDECAR_\w+)` \| ([^|]*?) \|", table, re.M)
    if not keys:
        sys.exit("environment: docs/CONFIGURATION.md: no key found; was the table's form changed?")
    wanted = {variable: OWN.get(variable, plain(default)) for variable, default in keys}
    example = (ROOT / "deploy/nvidia-sidecar.env.example").read_text()
    present = dict(re.findall(r"^#?(SIDECAR_\w+)=(.*)$", example, re.M))

    faults = [f"lacks {name}" for name in sorted(wanted.keys() - present.keys())]
    faults += [f"has {name}, which is no variable" for name in sorted(present.keys() - wanted.keys())]
    faults += [
        f"gives {name} as '{present[name]}', and the default is '{wanted[name]}'"
        for name in sorted(wanted.keys() & present.keys())
        if present[name] != wanted[name]
    ]
    if faults:
        sys.exit("\n".join(f"environment: deploy/nvidia-sidecar.env.example {fault}" for fault in faults))
    print(f"environment: {len(wanted)} variables at their defaults")


if __name__ == "__main__":
    main()
