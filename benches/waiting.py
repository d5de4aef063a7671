#!/usr/bin/env python3
"""What 500 streams cost that wait in the queue and are kept alive: processor time, memory and threads, beside their bars.

    python3 benches/waiting.py [--no-build] [--streams N]

Each gets its early 200 after 5 s and then a sign of life every 15 s, as `keepalive_interval` is by default. Takes about
three minutes: the same streams wait once without signs, for comparison, and once with them.
"""

import argparse
import os
import re
import selectors
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import Programs, build, cpu_seconds, raise_descriptor_limit, resident_kib, verdict

AFTER, SECONDS = 5, 60
BAR = 0.01


def request(port):
    """A connection on which a stream has been asked for."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    body = '{"model": "nvidia/deepseek-ai/deepseek-v4-pro", "stream": true, "messages": []}'
    connection.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    connection.setblocking(False)
    return connection


def threads(process):
    return len(os.listdir(f"/proc/{process.pid}/task"))


def read(selector, seconds):
    """Reads what comes within so many seconds; ends the script when a stream is cut off."""
    until, received = time.monotonic() + seconds, []
    while time.monotonic() < until:
        for key, _ in selector.select(0.2):
            piece = key.fileobj.recv(1 << 16)
            if not piece:
                sys.exit("a stream that waits was cut off")
            received.append(piece)
    return b"".join(received)


def wait(streams, keepalive):
    """Has this many streams wait; returns the processor's share, the memory before and after, the threads, the signs."""
    # An upstream that takes connections and never answers: the first request is in its hands, the others wait.
    with Programs() as programs, socket.create_server(("127.0.0.1", 0)) as upstream:
        process, port = programs.sidecar(
            upstream.getsockname()[1], rate_rpm=1, bucket_capacity=1, queue_timeout=86_400, queue_max_size=10_000,
            max_in_flight=1, log_level="ERROR", keepalive=keepalive, keepalive_after=AFTER, first_byte_timeout=3600,
        )
        first = request(port)
        time.sleep(1)
        threads_before = threads(process)
        selector = selectors.DefaultSelector()
        waiting = [request(port) for _ in range(streams)]
        for connection in waiting:
            selector.register(connection, selectors.EVENT_READ)
        # Past the early 200s, so that the measured time has nothing but the wait in it.
        early = read(selector, AFTER + 3)
        memory, before, began = resident_kib(process), cpu_seconds(process), time.monotonic()
        received = read(selector, SECONDS)
        share = (cpu_seconds(process) - before) / (time.monotonic() - began)
        grown = resident_kib(process) - memory
        for connection in [first, *waiting]:
            connection.close()
        heads = len(re.findall(rb"HTTP/1.1 200 OK", early + received))
        signs = len(re.findall(rb'"delta":{}', received))
        return share, memory, grown, threads(process) - threads_before, heads, signs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-build", action="store_true", help="use the binary that is there")
    parser.add_argument("--streams", type=int, default=500)
    arguments = parser.parse_args()
    if not arguments.no_build:
        build()
    raise_descriptor_limit()
    shares = {}
    for keepalive in ("off", "auto"):
        share, memory, grown, more_threads, heads, signs = wait(arguments.streams, f'"{keepalive}"')
        shares[keepalive] = share
        expected = arguments.streams * SECONDS / 15 if keepalive == "auto" else 0
        print(
            f"{arguments.streams} streams wait, keepalive {keepalive}: {100 * share:.2f} % of a core, "
            f"{memory / 1024:.1f} MiB, {grown:+d} KiB in {SECONDS} s, {more_threads:+d} threads; "
            f"{heads} early 200s, {signs} signs ({expected:.0f} expected)"
        )
        if keepalive == "auto" and (heads != arguments.streams or abs(signs - expected) > arguments.streams):
            sys.exit("a stream was not kept alive")
        if more_threads > 0:
            sys.exit("a thread was started for a stream that waits")
    print(f"with signs: {100 * shares['auto']:.2f} % of a core ({verdict(100 * shares['auto'], 100 * BAR, False)} %)")


if __name__ == "__main__":
    main()
