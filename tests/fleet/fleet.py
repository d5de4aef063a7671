"""A fleet under test: Redis as a process, an upstream that notes when each request came, sidecars, and clients that keep them busy."""

import bisect
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sidecar import PROGRAM, until

# The line that docs/OPERATIONS.md gives, which these tests run under.
ACL = (
    "~nvidia-sidecar:* resetchannels -@all +info +evalsha +eval +ping +time +hget +hset +hmget +hgetall +hdel +hincrby"
    " +zadd +zrem +zcard +zrange +zrangebyscore +zremrangebyscore +pexpire +del"
)
USER, PASSWORD = "sidecar", "correct-horse-battery"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A server of its own, without persistence unless asked for; `start` after `kill` is a restart."""

    def __init__(self, *options, port=None, acl=True, clock=False):
        self.options, self.port = options, port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="fleet-redis-"))
        self.acl, self.clock, self.process = acl, clock, None
        self.start()

    def start(self):
        arguments = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", self.directory, "--save", ""]
        environment = dict(os.environ)
        if self.clock:
            self.set_clock(0)
            environment.update(LD_PRELOAD=str(clock_library()), CLOCK_OFFSET_FILE=str(self.directory / "clock"))
        self.process = subprocess.Popen(
            [str(a) for a in [*arguments, *self.options]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        until("Redis answers", lambda: self.cli("ping", check=False).strip() == "PONG")
        if self.acl:
            self.cli("acl", "setuser", USER, "reset", "on", f">{PASSWORD}", *ACL.split())

    def set_clock(self, seconds):
        """Moves its wall clock by so much against the true time."""
        # In place: the server has mapped the file.
        with open(self.directory / "clock", "r+b" if (self.directory / "clock").exists() else "wb") as file:
            file.write(struct.pack("=i", seconds))

    def cli(self, *words, check=True):
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *map(str, words)], capture_output=True, text=True, timeout=10
        )
        if check and (done.returncode or done.stdout.startswith(("ERR", "NOPERM", "OOM"))):
            raise AssertionError(f"redis-cli {words}: {done.stdout}{done.stderr}")
        return done.stdout

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@functools.cache
def clock_library():
    """The preloaded clock, built once."""
    built = Path(tempfile.mkdtemp(prefix="fleet-clock-")) / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, source], check=True)
    return built


class Upstream:
    """Notes when each request came, by path; answers at once."""

    def __init__(self):
        self.came, self.lock = [], threading.Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer({"object": "list", "data": []})

            def do_POST(self):
                at = time.monotonic()
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with upstream.lock:
                    upstream.came.append((at, content.get("user", "")))
                self.answer({"object": "chat.completion", "choices": []})

            def answer(self, value):
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def times(self):
        with self.lock:
            return sorted(at for at, _ in self.came)

    def worst(self, window):
        """The most requests that came within any `window` seconds."""
        times = self.times()
        return max((bisect.bisect_left(times, at + window) - i for i, at in enumerate(times)), default=0)

    def between(self, begin, end):
        times = self.times()
        return bisect.bisect_left(times, end) - bisect.bisect_left(times, begin)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Sidecar:
    """One replica; `start` after `kill` is its next life, on the same ports and with the same files."""

    def __init__(self, name, upstream, redis_url, **config):
        self.directory = Path(tempfile.mkdtemp(prefix="fleet-sidecar-"))
        self.name = name
        password = self.directory / "password"
        password.write_text(PASSWORD + "\n")
        self.config = {
            "listen_port": free_port(), "metrics_port": free_port(), "upstream_url": upstream.url, "drain_timeout": 2,
            "upstream_api_key": "fleet-key-0123456789", "limit_unmatched": "always", "queue_timeout": 300,
            "redis_url": redis_url, "redis_user": USER, "redis_password_file": str(password), "replica_id": name,
            "log_level": "INFO", **config,
        }
        self.config = {key: value for key, value in self.config.items() if value is not None}
        self.log = self.directory / "log"
        self.process = None
        self.start()

    def start(self):
        path = self.directory / "config.yaml"
        path.write_text(json.dumps(self.config))
        log = open(self.log, "ab")
        self.process = subprocess.Popen([PROGRAM, "--config", path], stdout=log, stderr=log, env={"SIDECAR_LOG_FORMAT": "text"})
        log.close()
        until(f"{self.name} listens", lambda: self.ask("GET", "/health")[0] == 200)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def ask(self, method, path, body=None, **fields):
        """Status and content; status 0 when the sidecar is not there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.config["listen_port"], timeout=330)
        try:
            headers = {name.replace("_", "-"): str(value) for name, value in fields.items()}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def chat(self, user="x", **fields):
        body = json.dumps({"model": "nvidia/a/b", "user": user, "messages": []})
        return self.ask("POST", "/v1/chat/completions", body, Content_Type="application/json", **fields)[0]

    def status(self):
        return json.loads(self.ask("GET", "/status")[1])

    def fleet(self):
        return self.status()["fleet"]

    def joined(self):
        until(f"{self.name} joined", lambda: self.fleet()["standing"] == "joined", 90)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Load:
    """Clients that keep a backlog at each sidecar until `stop`; statuses are counted."""

    def __init__(self, sidecars, clients=12, **fields):
        self.stopping = threading.Event()
        self.statuses, self.lock = {}, threading.Lock()
        self.threads = [
            threading.Thread(target=self.run, args=(sidecar, f"{sidecar.name}-{n}", fields), daemon=True)
            for sidecar in sidecars for n in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def run(self, sidecar, client, fields):
        while not self.stopping.is_set():
            status = sidecar.chat(client, **{"X_Agent_Id": client, **fields})
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
            if status != 200:
                self.stopping.wait(0.05)

    def stop(self):
        self.stopping.set()
