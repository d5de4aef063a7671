#!/usr/bin/env python3
"""What the proxy costs: memory at rest and under load, cold start, size of the binary, each beside its bar.

    python3 benches/footprint/run.py [--only NAME ...] [--no-build]

NAME is one of idle, queued, bodies, streams, start, binary. Needs Linux (/proc) and nothing beyond Python; takes about
a minute. MB are millions of bytes.
"""

import argparse
import http.client
import json
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import SIDECAR, UPSTREAM, Programs, build, free_port, raise_descriptor_limit, resident_kib, verdict

KIB, MB = 1024, 1_000_000

# Tickets so scarce that next to nothing leaves the queue while it is measured, and patience enough that nobody is
# refused for the wait that this means: at 10 a minute the ten-thousandth waits for 17 hours.
SCARCE = {
    "rate_rpm": 10, "bucket_capacity": 1, "queue_timeout": 86_400, "queue_max_size": 20_000,
    "queue_max_bytes": 256 * KIB * KIB, "max_body_memory_bytes": 256 * KIB * KIB, "max_connections": 10_100,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--no-build", action="store_true", help="use the binaries that are there")
    options = parser.parse_args()
    if not options.no_build:
        build()
    raise_descriptor_limit()
    for name in options.only:
        FIGURES[name]()


def row(what, figure, unit, bar, note=""):
    print(f"{what:<46} {figure:>7.2f} {unit:<6} {verdict(figure, bar, at_least=False)}{note}", flush=True)


def idle():
    """Resident memory of a proxy that has answered one request and rests."""
    with Programs() as programs:
        process, port = programs.sidecar(free_port())
        get(port, "/health")
        time.sleep(1)
        row("idle, resident", resident_kib(process) / KIB, "MiB", 5)


def queued():
    """Resident memory with ten thousand requests of 1 kB each waiting for tickets."""
    waiting = 10_000
    with Programs() as programs:
        process, port = proxy_in_front_of_upstream(programs)
        with Waiting(port, waiting, 1000):
            depth = settled_depth(port, waiting)
            row(f"{depth} queued requests with 1 kB bodies", resident_kib(process) * KIB / MB, "MB", 45)


def bodies():
    """How often 200 large bodies are held while they wait, beyond what the proxy takes at rest."""
    waiting, size = 200, 512 * KIB
    with Programs() as programs:
        process, port = proxy_in_front_of_upstream(programs)
        get(port, "/health")
        before = resident_kib(process)
        with Waiting(port, waiting, size):
            depth = settled_depth(port, waiting)
            copies = (resident_kib(process) - before) * KIB / (depth * size)
            peak = (resident_kib(process, "VmHWM") - before) * KIB / (depth * size)
            row(f"{depth} queued requests with 512 KiB bodies", copies, "copies", 1.1, f" (at the peak {peak:.2f})")


def streams():
    """Resident memory with 512 event streams under way."""
    many = 512
    with Programs() as programs, Streamer() as upstream:
        process, port = programs.sidecar(upstream.port, passthrough_max_in_flight=many)
        clients = []
        for _ in range(many):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(post({"model": "other/m", "stream": True}, 200))
            clients.append(client)
        for client in clients:
            client.settimeout(20)
            seen = b""
            while b"data: 2" not in seen:
                piece = client.recv(65536)
                if not piece:
                    sys.exit(f"a stream ended early: {seen!r}")
                seen += piece
        row(f"{many} event streams, resident", resident_kib(process) * KIB / MB, "MB", 60)
        for client in clients:
            client.close()


def start():
    """From starting the process to the first 200 on /health, with a log that is read by nobody."""
    times = []
    with Programs() as programs:
        for _ in range(20):
            port = free_port()
            path = programs.directory / "start.yaml"
            path.write_text(f"listen_port: {port}\nmetrics_port: {free_port()}\n")
            began = time.perf_counter()
            process = subprocess.Popen([SIDECAR, "--config", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            programs.running.append(process)
            while not is_healthy(port):
                if process.poll() is not None or time.perf_counter() - began > 10:
                    sys.exit("the proxy does not start")
                time.sleep(0.0002)
            times.append((time.perf_counter() - began) * 1000)
            programs.stop(process)
    row("cold start to the first 200 on /health", statistics.median(times), "ms", 15, f" (worst of 20: {max(times):.1f})")


def binary():
    """The binary as the release profile strips it."""
    row("stripped binary", SIDECAR.stat().st_size / MB, "MB", 4)


FIGURES = {"idle": idle, "queued": queued, "bodies": bodies, "streams": streams, "start": start, "binary": binary}


def proxy_in_front_of_upstream(programs):
    upstream = free_port()
    programs.start([UPSTREAM, upstream], upstream)
    return programs.sidecar(upstream, **SCARCE)


def post(fields, size):
    """A chat completion whose body has `size` bytes."""
    body = json.dumps({**fields, "messages": ""})
    body = body[:-2] + "x" * (size - len(body)) + body[-2:]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


class Waiting:
    """Clients that have sent a limited request and wait for its answer."""

    def __init__(self, port, count, size):
        self.port, self.count, self.request = port, count, post({"model": "nvidia/m"}, size)

    def __enter__(self):
        self.clients = []
        for _ in range(self.count):
            client = socket.create_connection(("127.0.0.1", self.port))
            client.sendall(self.request)
            self.clients.append(client)
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()


def settled_depth(port, expected):
    """Waits until (nearly) all requests are queued; returns how many are."""
    for _ in range(200):
        time.sleep(0.1)
        queue = json.loads(get(port, "/status"))["queue"]
        depth = queue["current_size"] + queue["overflow"]
        if depth >= expected - 50:
            time.sleep(0.5)
            return depth
    sys.exit(f"only {depth} of {expected} requests are queued")


class Streamer:
    """An upstream that answers every request with an event stream: an event at once, then two a second."""

    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.listener.setblocking(False)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        self.listener.close()

    def run(self):
        selector = selectors.DefaultSelector()
        selector.register(self.listener, selectors.EVENT_READ)
        streaming, beat, next_beat = set(), 0, time.monotonic()
        while not self.ending.is_set():
            for key, _ in selector.select(0.05):
                if key.fileobj is self.listener:
                    client, _ = self.listener.accept()
                    client.setblocking(False)
                    selector.register(client, selectors.EVENT_READ)
                elif not self.received(key.fileobj):
                    selector.unregister(key.fileobj)
                    streaming.discard(key.fileobj)
                    key.fileobj.close()
                elif key.fileobj not in streaming:
                    key.fileobj.send(self.HEAD)
                    streaming.add(key.fileobj)
            if time.monotonic() >= next_beat:
                next_beat += 0.5
                beat = beat % 2 + 1
                event = b"data: %d %s\n\n" % (beat, b"x" * 100)
                for client in streaming:
                    try:
                        client.send(b"%x\r\n%s\r\n" % (len(event), event))
                    except OSError:
                        pass
        for client in streaming:
            client.close()

    @staticmethod
    def received(client):
        try:
            return bool(client.recv(65536))
        except OSError:
            return False


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"{path}: {response.status}")
        return response.read()
    finally:
        connection.close()


def is_healthy(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n")
            return client.recv(4096).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


if __name__ == "__main__":
    main()
