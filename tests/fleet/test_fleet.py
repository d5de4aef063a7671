"""Sidecars that share a quota through a real Redis: never above it, whatever breaks, and in the order of the whole fleet."""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faults
from faults import LIMIT, Trial
from fleet import PASSWORD, USER, Load, Redis, Sidecar, Upstream, free_port
from sidecar import until

WINDOW = 6
# Trials at one time; each is idle for most of its time.
AT_ONCE = int(os.environ.get("FLEET_TRIALS", "3"))


class Faults(unittest.TestCase):
    def test_no_window_holds_more_than_the_limit_whatever_breaks(self):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            trials = {name: pool.submit(faults.run, name, WINDOW) for name in faults.FAULTS}
        for name, trial in trials.items():
            with self.subTest(name):
                seen = trial.result()
                print(f"  {name}: worst {seen['worst']} of {LIMIT}, {seen['sent']} sent in {seen['seconds']:.0f} s, {seen['statuses']}")
                self.assertLessEqual(seen["worst"], LIMIT)
                self.assertGreaterEqual(seen["sent"], LIMIT, "it came back")


class Order(unittest.TestCase):
    def test_urgent_at_one_goes_before_low_at_the_others(self):
        with Trial(WINDOW, clients=0, bucket_capacity=1, low_priority_timeout=60) as trial:
            low = Load([trial.sidecars[0], trial.sidecars[2]], 8, X_Priority="low")
            until("the window is in use", lambda: len(trial.upstream.times()) > LIMIT)
            waits = []
            for _ in range(8):
                began = time.monotonic()
                self.assertEqual(trial.sidecars[1].chat("urgent", X_Priority="urgent", X_Agent_Id="urgent"), 200)
                waits.append(time.monotonic() - began)
                time.sleep(0.3)
            low.stop()
            # One place every window / LIMIT; the next one, and 50 ms.
            interval = (WINDOW + 0.25) / LIMIT
            print(f"  urgent waited {[round(wait * 1000) for wait in waits]} ms, a place comes every {interval * 1000:.0f} ms")
            self.assertLessEqual(sorted(waits)[len(waits) // 2], interval + 0.05)

    def test_clients_take_turns_over_the_whole_fleet(self):
        with Trial(WINDOW, clients=0) as trial:
            began = time.monotonic()
            hog = [Load([sidecar], 12, X_Agent_Id="hog") for sidecar in trial.sidecars[:2]]
            polite = Load([trial.sidecars[2]], 4, X_Agent_Id="polite")
            time.sleep(3.2 * WINDOW)
            for load in [*hog, polite]:
                load.stop()
            with trial.upstream.lock:
                came = [user for at, user in trial.upstream.came if at > began + 1.1 * WINDOW]
            share = sum(user.startswith("r2") for user in came) / len(came)
            print(f"  the polite client had {share:.2f} of the places, with a hog at two other sidecars")
            self.assertGreater(share, 0.4)


class Away(unittest.TestCase):
    def test_without_redis_limited_requests_are_refused_and_pass_through_does_not_notice(self):
        with Trial(WINDOW, clients=0, limit_unmatched="never") as trial:
            trial.redis.kill()
            sidecar = trial.sidecars[0]
            until("it is away", lambda: sidecar.fleet()["standing"] == "away")
            began = time.monotonic()
            for _ in range(20):
                self.assertEqual(sidecar.ask("GET", "/v1/models")[0], 200)
            self.assertLess(time.monotonic() - began, 2)
            status, content = sidecar.ask("POST", "/v1/chat/completions", json.dumps({"model": "nvidia/a/b"}))
            self.assertEqual((status, json.loads(content)["error"]["code"]), (503, "quota_unavailable"))
            self.assertTrue(sidecar.fleet()["error"])
            trial.redis.start()
            back = time.monotonic()
            until("it resumes", lambda: sidecar.chat() == 200)
            print(f"  resumed {time.monotonic() - back:.2f} s after Redis was back")
            self.assertLess(time.monotonic() - back, 10, "1 s on a machine with nothing else to do")

    def test_each_sends_its_share_and_never_more(self):
        with Trial(WINDOW, fleet_max=3) as trial:
            trial.run(WINDOW)
            trial.redis.kill()
            gone = time.monotonic()
            until("all share", lambda: all(s.fleet()["standing"] == "sharing" for s in trial.sidecars), 40)
            began = time.monotonic()
            trial.run(3 * WINDOW)
            ended = time.monotonic()
            # Grants of before may be sent for a second after Redis has gone.
            sent, safe = trial.upstream.between(gone + 2, ended), 3 * (LIMIT // 3)
            print(f"  sharing after {began - gone:.1f} s; {sent} sent in {ended - began:.0f} s, {safe} a window are safe")
            self.assertGreaterEqual(sent, 0.9 * safe * (ended - began) / (WINDOW + 0.25))
            trial.redis.start()
            until("all are back", lambda: all(s.fleet()["standing"] == "joined" for s in trial.sidecars), 40)
            trial.run(2 * WINDOW)
            self.assertLessEqual(trial.worst(), LIMIT)

    def test_one_that_is_cut_off_sends_the_share_that_the_others_leave(self):
        with Trial(WINDOW, fleet_max=3) as trial:
            trial.run(WINDOW)
            trial.switches[0].open = False
            trial.switches[0].cut()
            until("it shares", lambda: trial.sidecars[0].fleet()["standing"] == "sharing", 40)
            self.assertEqual(trial.sidecars[1].fleet()["absent"], 1)
            trial.run(2 * WINDOW)
            trial.switches[0].open = True
            until("it is back", lambda: trial.sidecars[0].fleet()["standing"] == "joined", 40)
            trial.run(2 * WINDOW)
            print(f"  worst {trial.worst()} of {LIMIT}")
            self.assertLessEqual(trial.worst(), LIMIT)


class Servers(unittest.TestCase):
    """Ways to reach a Redis, and what can be wrong with one."""

    def fleet_of_one(self, url, **config):
        upstream = Upstream()
        self.addCleanup(upstream.stop)
        sidecar = Sidecar("one", upstream, url, rate_window=1, rate_rpm=2400, **config)
        self.addCleanup(sidecar.stop)
        return sidecar

    def redis(self, *options, **more):
        redis = Redis(*options, **more)
        self.addCleanup(redis.stop)
        return redis

    def joins(self, sidecar):
        until("it joined", lambda: sidecar.fleet()["standing"] == "joined", 30)
        self.assertEqual(sidecar.chat(), 200)

    def error(self, sidecar):
        return until("there is an error", lambda: sidecar.fleet().get("error"))

    def test_a_unix_socket(self):
        path = Path(tempfile.mkdtemp(prefix="fleet-socket-")) / "redis.sock"
        self.redis("--unixsocket", path)
        self.joins(self.fleet_of_one(f"unix:{path}"))

    def test_tls_with_an_authority_of_its_own_and_not_without(self):
        folder = Path(tempfile.mkdtemp(prefix="fleet-tls-"))

        def openssl(*words):
            subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-days", "2",
                "-subj", "/CN=fleet test authority")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out", folder / "csr.pem", "-subj", "/CN=localhost")
        (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        openssl("x509", "-req", "-in", folder / "csr.pem", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
                "-out", folder / "cert.pem", "-days", "2", "-extfile", folder / "ext")
        tls = free_port()
        self.redis("--tls-port", tls, "--tls-cert-file", folder / "cert.pem", "--tls-key-file", folder / "key.pem",
                   "--tls-ca-cert-file", folder / "ca.pem", "--tls-auth-clients", "no")
        self.joins(self.fleet_of_one(f"rediss://localhost:{tls}", redis_ca_file=str(folder / "ca.pem")))
        self.error(self.fleet_of_one(f"rediss://localhost:{tls}"))

    def test_sentinel_says_who_takes_writes(self):
        redis = self.redis(acl=True)
        folder = Path(tempfile.mkdtemp(prefix="fleet-sentinel-"))
        port = free_port()
        (folder / "conf").write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor fleet 127.0.0.1 {redis.port} 1\n")
        sentinel = subprocess.Popen(["redis-server", folder / "conf", "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(sentinel.wait)
        self.addCleanup(sentinel.kill)
        self.joins(self.fleet_of_one("redis://nobody.invalid", redis_sentinels=[f"127.0.0.1:{port}"], redis_master="fleet"))

    def test_a_wrong_password_and_a_missing_permission_are_named(self):
        redis = self.redis()
        sidecar = self.fleet_of_one(f"redis://127.0.0.1:{redis.port}")
        self.joins(sidecar)
        redis.cli("acl", "setuser", USER, "-hgetall")
        redis.cli("client", "kill", "user", USER)
        until("the ACL shows", lambda: "ACL" in self.error(sidecar))
        redis.cli("acl", "setuser", USER, "+hgetall", "resetpass", ">other")
        redis.cli("client", "kill", "user", USER)
        until("the password shows", lambda: "password" in self.error(sidecar))
        self.assertNotIn(PASSWORD, sidecar.log.read_text())

    def test_another_layout_is_left_alone(self):
        redis = self.redis()
        sidecar = self.fleet_of_one(f"redis://127.0.0.1:{redis.port}")
        self.joins(sidecar)
        key = next(key for key in redis.cli("keys", "*").split() if key.endswith(":meta"))
        redis.cli("hset", key, "version", 2)
        until("it stops", lambda: sidecar.fleet()["standing"] == "other_version")
        before = redis.cli("hgetall", key)
        self.assertEqual(sidecar.chat(), 503)
        self.assertEqual(redis.cli("hgetall", key), before)

    def test_two_fleets_on_one_redis_have_two_quotas(self):
        redis = self.redis()
        url = f"redis://127.0.0.1:{redis.port}"
        for key in "first-key-0123456789", "other-key-0123456789":
            sidecar = self.fleet_of_one(url, upstream_api_key=key)
            self.joins(sidecar)
            self.assertEqual(len(sidecar.fleet()["replicas"]), 1)

    def test_a_key_that_is_rotated_is_another_fleet(self):
        redis = self.redis()
        sidecar = self.fleet_of_one(f"redis://127.0.0.1:{redis.port}")
        self.joins(sidecar)
        before = {key for key in redis.cli("keys", "*").split() if key.endswith(":meta")}
        sidecar.config["upstream_api_key"] = "rotated-key-0123456789"
        (sidecar.directory / "config.yaml").write_text(json.dumps(sidecar.config))
        sidecar.signal(signal.SIGHUP)
        until("there is another fleet", lambda: {k for k in redis.cli("keys", "*").split() if k.endswith(":meta")} - before)
        self.joins(sidecar)

    def test_a_sidecar_that_stops_signs_off(self):
        redis = self.redis()
        sidecar = self.fleet_of_one(f"redis://127.0.0.1:{redis.port}")
        self.joins(sidecar)
        sidecar.signal(signal.SIGTERM)
        self.assertEqual(sidecar.process.wait(timeout=20), 0)
        key = next(key for key in redis.cli("keys", "*").split() if key.endswith(":replicas"))
        self.assertIn('"left":true', redis.cli("hgetall", key))

    def test_without_redis_url_there_is_no_fleet(self):
        sidecar = self.fleet_of_one(None, redis_user=None, redis_password_file=None)
        self.assertNotIn("fleet", sidecar.status())
        self.assertFalse([name for name in Path(f"/proc/{sidecar.process.pid}/task").glob("*/comm") if name.read_text().strip() == "fleet"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
