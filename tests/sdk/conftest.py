"""The sidecar under test, in front of a scripted upstream; each test has its own of both."""

import json
import os
import re
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from openai import OpenAI

from upstream import Upstream

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SIDECAR_BIN", ROOT / "target/release/nvidia-sidecar"))
# A quota that does not matter, unless a test makes it one.
PLENTY = {"SIDECAR_RATE_RPM": "60000", "SIDECAR_BUCKET_CAPACITY": "60000"}


class Sidecar:
    """A process of its own on free ports; its log is shown when a test fails."""

    def __init__(self, upstream_url, settings):
        own = {"SIDECAR_UPSTREAM": upstream_url, "SIDECAR_PORT": "0", "SIDECAR_METRICS_PORT": "0"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        own |= {"SIDECAR_DRAIN_TIMEOUT": "1"}
        self.process = subprocess.Popen(
            [BINARY], env=inherited | own | PLENTY | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        # Printed when it stops: a thread's output between two tests would belong to neither.
        self.log = []
        for line in self.process.stdout:
            self.log.append(line)
            if found := re.search(r"listens on (127\.0\.0\.1:\d+)", line):
                self.address = found[1]
                break
        else:
            raise RuntimeError(f"the sidecar ended with status {self.process.wait()}: {''.join(self.log)}")
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout))
        self.reader.start()

    def client(self, kind=OpenAI, **options):
        """A client that never retries by itself, so that what it sees is what the sidecar did."""
        options = {"api_key": "client-key", "max_retries": 0, "timeout": 20} | options
        return kind(base_url=f"http://{self.address}/v1", **options)

    def status(self):
        with urllib.request.urlopen(f"http://{self.address}/status", timeout=5) as answer:
            return json.load(answer)

    def wait_until_queued(self, count):
        deadline = time.monotonic() + 10
        while (depth := self.status()["queue"]["current_size"]) != count:
            assert time.monotonic() < deadline, f"{depth} requests wait, not {count}"

    def stop(self):
        self.process.terminate()
        status = self.process.wait(timeout=10)
        self.reader.join()
        print("".join(self.log))
        assert status == 0, f"the sidecar ended with status {status}"


@pytest.fixture
def upstream():
    upstream = Upstream().start()
    yield upstream
    upstream.stop()


@pytest.fixture
def start(upstream):
    """Starts a sidecar with settings of a test's own."""
    started = []

    def start(**settings):
        started.append(Sidecar(upstream.url, {f"SIDECAR_{name}": str(value) for name, value in settings.items()}))
        return started[-1]

    yield start
    for sidecar in started:
        sidecar.stop()


@pytest.fixture
def sidecar(start):
    return start()
