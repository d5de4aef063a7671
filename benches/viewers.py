#!/usr/bin/env python3
"""What 200 viewers of the dashboard's stream cost beyond one: processor time as a share of one core, beside its bar.

    python3 benches/viewers.py [--no-build]

Fifty requests wait meanwhile, so that the snapshots are as large as they get in earnest. Takes about 45 seconds.
"""

import selectors
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import Programs, build, cpu_seconds

VIEWERS, WAITING, SECONDS = 200, 50, 20
BAR = 0.02


def request(port, text):
    """A connection on which this has been asked."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(text.encode())
    return connection


def watch(port):
    return request(port, "GET /api/dashboard/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")


def share(process, viewers):
    """The share of a core that the process takes while these are shown the stream, and the bytes that came."""
    selector = selectors.DefaultSelector()
    for viewer in viewers:
        viewer.setblocking(False)
        selector.register(viewer, selectors.EVENT_READ)
    began, before, received = time.monotonic(), cpu_seconds(process), 0
    while time.monotonic() < began + SECONDS:
        for key, _ in selector.select(0.2):
            piece = key.fileobj.recv(1 << 16)
            if not piece:
                sys.exit("a viewer that keeps up was dropped")
            received += len(piece)
    return (cpu_seconds(process) - before) / (time.monotonic() - began), received


def main():
    if "--no-build" not in sys.argv:
        build()
    # An upstream that takes connections and never answers: the first request is in its hands, the others wait.
    with Programs() as programs, socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream_port = upstream.getsockname()[1]
        process, port = programs.sidecar(
            upstream_port, request_timeout=300, rate_rpm=1, bucket_capacity=1, queue_timeout=86_400, log_level="ERROR",
        )
        body = '{"model": "nvidia/deepseek-ai/deepseek-v4-pro"}'
        chat = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        waiting = [request(port, chat) for _ in range(WAITING + 1)]
        viewers = [watch(port)]
        one, received = share(process, viewers)
        viewers += [watch(port) for _ in range(VIEWERS - 1)]
        all_of_them, _ = share(process, viewers)
        for connection in viewers + waiting:
            connection.close()
    more = all_of_them - one
    print(f"a snapshot has about {received // SECONDS} bytes")
    print(f"1 viewer: {one:.2%} of a core; {VIEWERS} viewers: {all_of_them:.2%}")
    print(f"{VIEWERS} viewers cost {more:.2%} of a core more than one, the bar is {BAR:.0%}: {'ok' if more < BAR else 'MISSED'}")
    return more >= BAR


if __name__ == "__main__":
    sys.exit(main())
