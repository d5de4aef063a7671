"""Makes docs/img/dashboard.png: the dashboard after five minutes in which somebody else used the same key for a while.

    PYTHONPATH=tests/support python3 tests/browser/picture.py
"""

import json
import time

from nim import Nim
from sidecar import ROOT, Fleet, Sidecar
from webdriver import Browser, Driver

AGENTS = [
    ("planner", "urgent", "nvidia/deepseek-ai/deepseek-v4-pro", 6.0),
    ("researcher", "high", "nvidia/deepseek-ai/deepseek-v4-pro", 2.5),
    ("writer", "normal", "nvidia/qwen/qwen3.5-397b-a17b", 1.5),
    ("reviewer", "normal", "nvidia/moonshotai/kimi-k2.6", 2.0),
    *[(f"crawler-{i}", "low", "nvidia/meta/llama-4-maverick", 1.0 + i) for i in range(5)],
    ("helper", "normal", "ollama/qwen3:4b", 3.0),
]


def main():
    nim = Nim(delay=0.8)
    sidecar = Sidecar(
        upstream_url=nim.url, rate_rpm=120, bucket_capacity=6, low_priority_timeout=60, limit_unmatched="never",
        recover_window_seconds=30, recover_increment_rpm=10,
        agents=[
            {"name": "planner", "label": "Planning", "heartbeat_seconds": 600},
            {"name": "researcher", "label": "Research", "heartbeat_seconds": 900},
            {"name": "writer", "label": "Writing", "heartbeat_seconds": 600},
        ],
    )
    fleet, driver = Fleet(sidecar, AGENTS), Driver()
    time.sleep(120)
    nim.quota = 80  # somebody else takes the rest
    time.sleep(45)
    nim.quota = 10**6
    for name, pending in (("planner", 3), ("researcher", 7), ("writer", 1)):
        sidecar.ask("POST", f"/api/agents/{name}/heartbeat", json.dumps({"pending": pending}))
    time.sleep(120)
    browser = Browser(driver)
    browser.cdp("Emulation.setDeviceMetricsOverride", width=1200, height=1000, deviceScaleFactor=1.25, mobile=False)
    browser.open(sidecar.base + "/api/dashboard")
    time.sleep(5)
    browser.picture(ROOT / "docs/img/dashboard.png")
    browser.close()
    fleet.stop()
    driver.stop()
    sidecar.stop()
    nim.stop()


if __name__ == "__main__":
    main()
