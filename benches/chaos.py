#!/usr/bin/env python3
"""An hour with everything at once: honest agents, abusive clients, a moody upstream that enforces its quota, reloads, kills,
viewers and scrapers.

    python3 benches/chaos.py [--seconds N] [--binary PATH]

Prints what came of it: answers that were somebody else's or broken (0 is the bar), requests that were lost without a word
outside of kills (0), 429s at an agent that kept its patience (0), the fullest window that the upstream saw (at most its
limit), and the process's descriptors, threads and memory while busy and at rest. Everything runs on loopback.
"""

import argparse
import collections
import http.client
import http.server
import json
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from harness import SIDECAR, Programs, build, free_port, listens, resident_kib

LIMIT = 600  # requests in any 60 s
WINDOW = 60
TOKEN, ADMIN = "token-of-an-agent-0123456789", "token-of-the-operator-0123456789"


class Upstream(http.server.ThreadingHTTPServer):
    """Answers with what it was asked, in one of many ways, and refuses what exceeds its quota."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent, self.lock, self.fullest, self.refused = collections.deque(), threading.Lock(), 0, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def admits(self):
        now = time.monotonic()
        with self.lock:
            while self.sent and self.sent[0] <= now - WINDOW:
                self.sent.popleft()
            self.sent.append(now)
            self.fullest = max(self.fullest, len(self.sent))
            self.refused += len(self.sent) > LIMIT
            return len(self.sent) <= LIMIT

    def handle_error(self, *_):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def whole(self, status, body, **fields):
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": len(body), **fields}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.whole(200, b'{"object":"list","data":[]}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not self.server.admits():
            return self.whole(429, b'{"status":429,"title":"Too Many Requests"}')
        asked = json.loads(body)
        nonce = asked["nonce"]
        mood = random.random()
        if mood < 0.02:
            return self.whole(503, b"{}", retry_after=1)
        if mood < 0.03:
            self.close_connection = True  # without a word
            return None
        if mood < 0.05:
            self.whole(200, json.dumps({"nonce": nonce}).encode())
            return self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")  # nobody asked for this
        time.sleep(random.random() * 0.2)
        if not asked.get("stream"):
            return self.whole(200, json.dumps({"nonce": nonce, "pad": "x" * random.randrange(30_000)}).encode())
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for i in range(8):
            piece = f"data: {json.dumps({'nonce': nonce, 'i': i})}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(random.random() * 0.02)
        return self.wfile.write(b"0\r\n\r\n")


class World:
    def __init__(self, arguments, programs):
        self.arguments, self.programs = arguments, programs
        self.until = time.monotonic() + arguments.seconds
        self.upstream = Upstream()
        self.port, self.metrics = free_port(), free_port()
        self.path = programs.directory / "sidecar.yaml"
        self.counts, self.lock = collections.Counter(), threading.Lock()
        self.down = threading.Event()  # a kill is under way, and what is lost is its
        self.write(400)
        self.start()

    def write(self, rate):
        keys = {
            "listen_port": self.port, "metrics_port": self.metrics, "log_level": "ERROR", "rate_rpm": rate,
            "bucket_capacity": 50, "upstream_api_key": "nvapi-chaos-0123456789",
            "upstream_url": f"http://127.0.0.1:{self.upstream.server_address[1]}/v1", "admin_token": ADMIN,
            "client_tokens": {"agent": TOKEN}, "retry_on": [429, "connect", 503], "client_timeout": 5,
            "state_file": str(self.programs.directory / "state"), "keepalive_after": 2, "keepalive_interval": 1,
        }
        self.path.write_text(json.dumps(keys))

    def start(self):
        self.process = self.programs.start([self.arguments.binary, "--config", self.path], self.port)

    def over(self):
        return time.monotonic() > self.until

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def honest(self, name, priority):
        """Asks for one thing after the other, and looks whether each answer is its own and whole."""
        while not self.over():
            nonce, stream = f"{name}-{random.getrandbits(64):x}", random.random() < 0.5
            body = json.dumps({"model": "nvidia/m", "nonce": nonce, "stream": stream, "messages": []})
            killed = self.down.is_set()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            try:
                connection.request("POST", "/v1/chat/completions", body, {
                    "Authorization": f"Bearer {TOKEN}", "X-Agent-Id": name, "X-Priority": priority})
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status == 200:
                    is_stream = answer.getheader("content-type") == "text/event-stream"
                    pieces = [line[6:] for line in text.splitlines() if line.startswith("data: ")] if is_stream else [text]
                    told = [json.loads(piece).get("nonce") for piece in pieces if piece != "[DONE]"]
                    own = [other for other in told if other is not None]
                    errors = "error" in text
                    good = own == [nonce] * (8 if is_stream else 1)
                    self.count("answered" if good else "told of an error after an early 200" if errors else "WRONG ANSWERS")
                    if not good and not errors:
                        print(f"asked with {nonce}, got {text[:300]!r}", flush=True)
                else:
                    self.count("429s AT AN AGENT" if answer.status == 429 else f"answered {answer.status}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                time.sleep(0.05)
                lost = not killed and not self.down.is_set()
                self.count("LOST" if lost else "cut by a kill")
                if lost:
                    print(f"lost {nonce}: {error!r}", flush=True)
            finally:
                connection.close()

    def abuse(self):
        """One after the other what a client should not do."""
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
        wrongs = [
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000,
            head + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000,
            head + b"X-Long: " + b"x" * 40_000,
            head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\x16\x03\x01" + random.randbytes(200),
            head.replace(TOKEN.encode(), b"wrong") + b"Expect: 100-continue\r\nContent-Length: 30000000\r\n\r\n",
            b"GET /api/admin/config HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\n\r\n" * 50,
            b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /v1/../admin HTTP/1.1\r\nHost: h\r\n\r\n",
            head + b'Content-Length: 33\r\n\r\n{"model":"nvidia/m","nonce":"gone"}',
        ]
        while not self.over():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as stream:
                    stream.settimeout(random.choice([0.01, 0.2, 2]))
                    stream.sendall(random.choice(wrongs))
                    while stream.recv(65536):
                        pass
            except OSError:
                pass
            self.count("abuses")

    def look(self, path, token):
        """A viewer or scraper: reads what comes for a while, and comes back."""
        while not self.over():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as stream:
                    stream.settimeout(3)
                    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                    until = time.monotonic() + random.random() * 5
                    while time.monotonic() < until and stream.recv(65536):
                        pass
            except OSError:
                time.sleep(0.2)

    def disturb(self):
        """Reloads every two seconds; every so often a kill -9 or a stop, and a start on the same ports."""
        while not self.over():
            for _ in range(15):
                if self.over():
                    return
                self.write(random.choice([300, 400, 500, 600]))
                self.process.send_signal(signal.SIGHUP)
                self.count("reloads")
                time.sleep(2)
            self.down.set()
            hard = random.random() < 0.5
            self.process.kill() if hard else self.process.terminate()
            self.process.wait(60)
            self.start()
            time.sleep(1)
            self.down.clear()
            self.count("kills" if hard else "restarts")

    def figures(self):
        fds = len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
        threads = len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))
        return f"{fds} descriptors, {threads} threads, {resident_kib(self.process) / 1024:.1f} MiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--binary", type=Path, help="use this one instead of building")
    arguments = parser.parse_args()
    if not arguments.binary:
        build()
        arguments.binary = SIDECAR
    with Programs() as programs:
        world = World(arguments, programs)
        print("at the start:", world.figures())
        jobs = [(world.honest, (f"agent-{i}", ["urgent", "high", "normal", "low"][i % 4])) for i in range(12)]
        jobs += [(world.abuse, ())] * 6 + [(world.disturb, ())]
        jobs += [(world.look, ("/api/dashboard/stream", TOKEN))] * 3
        jobs += [(world.look, (path, ADMIN)) for path in ("/metrics", "/status", "/api/queue")]
        threads = [threading.Thread(target=run, args=args) for run, args in jobs]
        for thread in threads:
            thread.start()
        while not world.over():
            time.sleep(min(60, arguments.seconds))
            if not world.down.is_set():
                print(f"after {arguments.seconds - max(world.until - time.monotonic(), 0):.0f} s:", world.figures(), flush=True)
        for thread in threads:
            thread.join(180)
        listens(world.port, world.process)
        time.sleep(15)  # idle workers end after ten
        print("at rest:", world.figures())
        for what, count in sorted(world.counts.items()):
            print(f"  {what}: {count}")
        print(f"  fullest window at the upstream: {world.upstream.fullest} of {LIMIT}, refused {world.upstream.refused}")
        bad = [what for what in ("WRONG ANSWERS", "LOST", "429s AT AN AGENT") if world.counts[what]]
        if bad or world.upstream.fullest > LIMIT:
            sys.exit("missed: " + ", ".join(bad or ["the window"]))


if __name__ == "__main__":
    main()
