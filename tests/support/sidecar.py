"""The built sidecar as a process of its own."""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("SIDECAR_BIN", ROOT / "target/release/nvidia-sidecar")).resolve()


def until(what, look, seconds=20):
    """Looks until there is something to see, and gives it."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.05)


class Sidecar:
    """Runs from its making to `stop`; `start` runs it again, on the same ports."""

    def __init__(self, **config):
        self.config = {"listen_port": 0, "metrics_port": 0, "drain_timeout": 1, **config}
        self.file = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        self.start()

    def start(self):
        self.file.seek(0)
        self.file.truncate()
        json.dump(self.config, self.file)  # JSON is YAML
        self.file.flush()
        self.process = subprocess.Popen(
            [PROGRAM, "--config", self.file.name], stdout=subprocess.PIPE, text=True, env={"SIDECAR_LOG_FORMAT": "text"}
        )
        for line in self.process.stdout:
            found = re.search(r"listens on [\d.]+:(\d+) \(metrics on [\d.]+:(\d+)\)", line)
            if found:
                break
        else:
            raise AssertionError(f"the sidecar did not start, status {self.process.wait()}")
        self.port, self.metrics_port = int(found[1]), int(found[2])
        self.config.update(listen_port=self.port, metrics_port=self.metrics_port)
        self.base = f"http://127.0.0.1:{self.port}"
        # A full pipe would drop lines of the log.
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=10) == 0
        self.reader.join()
        self.process.stdout.close()

    def ask(self, method, path, body=None, **fields):
        """Status and content of the answer to a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def chat(self, text="hello", model="nvidia/deepseek-ai/deepseek-v4-pro", **fields):
        """The status of a chat completion's answer."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
        return self.ask("POST", "/v1/chat/completions", body, Content_Type="application/json", **fields)[0]

    def status(self):
        return json.loads(self.ask("GET", "/status")[1])


class Fleet:
    """Agents that ask without a pause but the one between two requests, until `stop`."""

    def __init__(self, sidecar, agents):
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(sidecar, *agent), daemon=True) for agent in agents]
        for thread in self.threads:
            thread.start()

    def run(self, sidecar, name, priority, model, pause):
        while not self.stopping.wait(pause):
            try:
                sidecar.chat(model=model, X_Agent_Id=name, X_Priority=priority)
            except OSError:
                self.stopping.wait(0.2)  # it is being restarted

    def stop(self):
        self.stopping.set()
