"""What Prometheus makes of the metrics: it takes them without a complaint, and every query of docs/METRICS.md runs on them."""

import faulthandler
import json
import re
import subprocess
import tempfile
import threading
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from nim import Nim
from sidecar import ROOT, Sidecar, until

CONFIG = """
global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}
scrape_configs:
  - job_name: nvidia-sidecar
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""


class Prometheus:
    """A Prometheus that scrapes one port, with a database that it throws away."""

    def __init__(self, port):
        self.folder = tempfile.TemporaryDirectory()
        config = Path(self.folder.name) / "prometheus.yml"
        config.write_text(CONFIG.format(port=port))
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder.name}/data",
             "--web.listen-address=127.0.0.1:0", "--log.level=info"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r'component=web.*(?:address=127\.0\.0\.1:|Listening on" address=\S*:)(\d+)', line)
            if found and found[1] != "0":
                break
        else:
            raise AssertionError("Prometheus did not start:\n" + "".join(self.log))
        self.base = f"http://127.0.0.1:{found[1]}"
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()
        until("Prometheus is ready", self.is_ready)

    def is_ready(self):
        try:
            with urllib.request.urlopen(self.base + "/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def call(self, path, **parameters):
        try:
            with urllib.request.urlopen(f"{self.base}{path}?{urllib.parse.urlencode(parameters)}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {json.load(error)['error']}") from None

    def query(self, promql):
        """The series of the answer: labels and value."""
        data = self.call("/api/v1/query", query=promql)
        self.kind = data["resultType"]
        if self.kind in ("scalar", "string"):
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def value(self, promql):
        """The value of the only series, or None when there is none."""
        series = self.query(promql)
        assert len(series) < 2, f"{promql}: {series}"
        return series[0][1] if series else None

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.reader.join()
        self.process.stderr.close()
        self.folder.cleanup()


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nim = Nim()
        cls.addClassCleanup(lambda: cls.nim.stop())  # whichever it is by then
        cls.sidecar = Sidecar(
            upstream_url=cls.nim.url, rate_rpm=6000, bucket_capacity=6000, max_attempts=1, limit_unmatched="never",
            model_rates=[{"match": "nvidia/*", "rate": "6000/1m"}],
            agents=[{"name": "planner", "label": "Planning", "heartbeat_seconds": 600, "max_rounds": 50}],
        )
        cls.addClassCleanup(cls.sidecar.stop)
        # An agent has some of its series once it was heard of.
        heard = cls.sidecar.ask("POST", "/api/agents/planner/heartbeat", json.dumps({"pending": 1, "rounds": 3}))
        assert heard[0] < 300, heard
        cls.prometheus = Prometheus(cls.sidecar.metrics_port)
        cls.addClassCleanup(cls.prometheus.stop)
        until("it is scraped", lambda: cls.prometheus.value('up{job="nvidia-sidecar"}') == 1)

    def rises(self, series, by, seconds=20):
        """What to do once `by` more of a series are seen than now."""
        before = self.prometheus.value(series) or 0

        def seen():
            rise = (self.prometheus.value(series) or 0) - before
            self.assertLessEqual(rise, by + 0.001, series)
            return rise >= by - 0.001

        return lambda: until(f"{series} rises by {by}", seen, seconds)

    def test_promtool_has_nothing_to_say(self):
        self.assertEqual(self.sidecar.chat(), 200)
        text = self.sidecar.ask("GET", "/metrics")[1]
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_the_scrape_is_whole(self):
        target = self.prometheus.call("/api/v1/targets")["activeTargets"][0]
        self.assertEqual((target["health"], target["lastError"]), ("up", ""))
        text = self.sidecar.ask("GET", "/metrics")[1]
        series = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
        until("every series is taken", lambda: self.prometheus.value("scrape_samples_scraped") == series)

    def test_every_documented_query_runs_and_finds_its_metric(self):
        documented = (ROOT / "docs/METRICS.md").read_text()
        rows = re.findall(r"^\| `(\w+)` \|.*`([^`]+)` \|$", documented, re.M)
        self.assertGreater(len(rows), 40)
        self.assertEqual(len(rows), len(re.findall(r"^\| `(?:sidecar|agent|process)_", documented, re.M)), "a row has no query")
        for name, promql in rows:
            with self.subTest(promql):
                self.prometheus.query(promql)
                self.assertIn(name, promql)
                kind = "_count" if re.search(rf"`{name}` \| histogram", documented) else ""
                self.assertTrue(self.prometheus.query(name + kind), f"{name} has no series")

    def test_a_429_counts_as_one(self):
        limited = self.rises('sidecar_requests_total{priority="high",status="ratelimited"}', 1)
        failed = self.rises('sidecar_upstream_errors_total{status_code="429",provider="nvidia"}', 1)
        self.assertEqual(self.sidecar.chat("ask for 429", model="nvidia/refused", X_Priority="high"), 429)
        limited()
        failed()

    def test_queue_latency_is_queue_time_only(self):
        counted = self.rises('sidecar_queue_latency_seconds_count{priority="urgent"}', 1)
        before = self.prometheus.value('sidecar_queue_latency_seconds_sum{priority="urgent"}')
        slow_before = self.prometheus.value('sidecar_upstream_latency_seconds_sum{provider="nvidia"}')
        self.assertEqual(self.sidecar.chat("ask for slow", X_Priority="urgent"), 200)
        counted()
        self.assertLess(self.prometheus.value('sidecar_queue_latency_seconds_sum{priority="urgent"}') - before, 0.2)
        self.assertGreater(self.prometheus.value('sidecar_upstream_latency_seconds_sum{provider="nvidia"}') - slow_before, 1.4)

    def test_names_that_clients_make_up_become_no_series(self):
        self.assertEqual(self.sidecar.chat(model="nvidia/first", X_Agent_Id="first"), 200)
        series = lambda: self.prometheus.value('count({job="nvidia-sidecar"})')
        before = until("it is scraped", series)
        scrapes = self.prometheus.value("count_over_time(sidecar_uptime_seconds[1h])")
        for i in range(100):
            self.sidecar.chat(model=f"nvidia/model-{i}", X_Agent_Id=f"agent-{i}")
        until("it is scraped again", lambda: self.prometheus.value("count_over_time(sidecar_uptime_seconds[1h])") > scrapes + 2)
        self.assertEqual(series(), before)

    def test_zz_health_falls_with_the_upstream_and_recovers_with_it(self):
        health = lambda: self.prometheus.value("sidecar_health_status")
        until("it is healthy", lambda: health() == 1)
        self.nim.stop()
        until("it is not", lambda: health() == 0, 30)
        type(self).nim = Nim(port=self.nim.port)
        until("it is healthy again", lambda: health() == 1, 30)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(240, exit=True)  # says what hangs
    unittest.main(verbosity=2)
