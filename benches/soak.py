#!/usr/bin/env python3
"""The limiter in real time: the demo's agents at the demo's upstream, which enforces its quota, for ten minutes.

    python3 benches/soak.py [--seconds N] [--no-build]

The upstream grants 120 requests in any 60 s, of which a stranger with the same key takes 12 now and then. Prints what the
agents got of that, and the 429s at the upstream and at the agents.
"""

import argparse
import re
import subprocess
import sys

from harness import SIDECAR, build

QUOTA_A_MINUTE = 120
# The stranger's requests and when they come, as src/demo/fleet.rs has them.
STRANGER, FIRST, EVERY = 12, 20, 240


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--no-build", action="store_true", help="use the binary that is there")
    arguments = parser.parse_args()
    if not arguments.no_build:
        build()
    run = subprocess.run(
        [SIDECAR, "demo", "--seconds", str(arguments.seconds)],
        stdout=subprocess.PIPE, text=True, timeout=arguments.seconds + 60, check=True,
    )
    figure = lambda name: int(re.search(rf"^  {re.escape(name)} +(\d+)$", run.stdout, re.M).group(1))
    answered = figure("requests answered")
    strangers = STRANGER * (max(arguments.seconds - FIRST, 0) // EVERY + 1)
    granted = QUOTA_A_MINUTE * arguments.seconds / 60 - strangers
    at_upstream, at_agents = figure("429s from the upstream"), figure("429s that reached an agent")
    print(f"{arguments.seconds} s: {answered} answered, {answered / granted:.3f} of the {granted:.0f} that the upstream granted")
    print(f"429s at the upstream: {at_upstream} ({100 * at_upstream / (answered + at_upstream):.2f} %), at agents: {at_agents}, failed: {figure('failed')}")
    print(run.stdout[run.stdout.index("  wait for a ticket"):].split("\n\n")[0])
    if at_agents or figure("failed"):
        sys.exit("an agent got a 429 or failed")


if __name__ == "__main__":
    main()
