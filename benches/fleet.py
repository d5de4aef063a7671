#!/usr/bin/env python3
"""Runs a fleet of three through each fault again and again: benches/fleet.py [--runs 20] [--window 6] [--at-once 3] [FAULT...]

With --window 60 each trial takes minutes, as the real quota does. Needs redis-server, redis-cli and cc (tests/fleet/run installs them) and the
release build, or SIDECAR_BIN. It ends with status 1 when a window held more than its limit.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tests/fleet")]
import faults  # noqa: E402


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--window", type=int, default=6)
    arguments.add_argument("--at-once", type=int, default=3)
    arguments.add_argument("faults", nargs="*", choices=[*faults.FAULTS, []])
    given = arguments.parse_args()
    over = 0
    with ThreadPoolExecutor(given.at_once) as pool:
        trials = {
            name: [pool.submit(faults.run, name, given.window) for _ in range(given.runs)]
            for name in given.faults or faults.FAULTS
        }
        print(f"| fault | runs | worst {given.window} s of {faults.LIMIT} | use of what the windows allow |\n|---|---|---|---|", flush=True)
        for name, runs in trials.items():
            seen = [run.result() for run in runs]
            worst = [run["worst"] for run in seen]
            # As many windows as can have begun, the margin counted in.
            use = [run["sent"] / (faults.LIMIT * (1 + int(run["seconds"] / (given.window + 0.25)))) for run in seen]
            over += sum(count > faults.LIMIT for count in worst)
            print(f"| {name} | {len(runs)} | {max(worst)} | {min(use):.2f} to {max(use):.2f} |", flush=True)
    print(f"\n{over} runs above the limit")
    sys.exit(over > 0)


if __name__ == "__main__":
    main()
