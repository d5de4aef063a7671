#!/usr/bin/env python3
"""This proxy, nginx and haproxy side by side in front of the same upstream, and the limited path beside pass-through.

    python3 benches/side_by_side/run.py [--rounds N] [--seconds S] [--only pass|limited|soak] [--no-build]

All run on loopback at free ports and are loaded by wrk in turn, round after round (A B C A B C ...), so that whatever
else the machine does falls on all of them; the figures are medians over the rounds, and only their ratios count.
Needs nginx, haproxy and wrk. The defaults take about six minutes; `--only soak` takes `--soak-seconds` (600).
"""

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import SIDECAR, UPSTREAM, Programs, build, cpu_seconds, free_port, median, need, verdict

HERE = Path(__file__).resolve().parent

NGINX = """
daemon off; worker_processes 2; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {directory}/nginx-body; proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-fastcgi; uwsgi_temp_path {directory}/nginx-uwsgi;
  scgi_temp_path {directory}/nginx-scgi;
  upstream bench {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:{port}
  default_backend bench
backend bench
  server s 127.0.0.1:{upstream}
"""

CONNECTIONS = [1, 16, 64]
# Both models have names of one length, so both bodies have one size.
LIMITED = '{"model":"nvidia/bench","messages":[{"role":"user","content":"Hello, how are you today?"}]}'
PASS_THROUGH = LIMITED.replace("nvidia/", "openai/")


def main():
    options = parse()
    programs_needed = need("nginx", "haproxy", "wrk")
    if not options.no_build:
        build()
    with Programs() as programs:
        bench = Bench(programs, programs_needed, options)
        if options.only in (None, "pass"):
            bench.pass_through()
        if options.only in (None, "limited"):
            bench.limited()
        if options.only == "soak":
            bench.soak()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load for each measurement")
    parser.add_argument("--soak-seconds", type=int, default=600)
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--only", choices=["pass", "limited", "soak"])
    parser.add_argument("--compare", metavar="BINARY", help="another build of this proxy, measured in the same rounds")
    parser.add_argument("--no-build", action="store_true", help="use the binaries that are there")
    options = parser.parse_args()
    options.rounds = max(1, min(options.rounds, 100))
    options.seconds = max(1, min(options.seconds, 60))
    options.soak_seconds = max(20, min(options.soak_seconds, 3600))
    return options


class Load:
    """What wrk measured: requests a second, and the latency's percentiles in microseconds; and the processor time in
    microseconds that the target took for each request, which depends least on what else the machine does."""

    def __init__(self, line, cpu_seconds):
        requests, micros, self.p50, self.p99, errors = map(float, line.split()[1:])
        self.rate = requests / (micros / 1e6)
        self.cpu = cpu_seconds * 1e6 / max(requests, 1)
        if errors:
            print(f"  {errors:.0f} errors among {requests:.0f} requests", file=sys.stderr)


class Bench:
    def __init__(self, programs, found, options):
        self.programs, self.found, self.options = programs, found, options
        self.upstream = free_port()
        self.processes = {self.upstream: programs.start([UPSTREAM, self.upstream], self.upstream)}

    def load(self, port, connections, seconds=None, body=None):
        environment = dict(os.environ)
        environment.pop("BENCH_BODY", None)
        if body is not None:
            environment["BENCH_BODY"] = body
        seconds = seconds or self.options.seconds
        before = cpu_seconds(self.processes[port])
        out = subprocess.run(
            [self.found["wrk"], "-t1", f"-c{connections}", f"-d{seconds}s", "-s", HERE / "report.lua",
             f"http://127.0.0.1:{port}/v1/chat/completions"],
            env=environment, check=True, capture_output=True, text=True, timeout=seconds + 30,
        ).stdout
        line = next(line for line in out.splitlines() if line.startswith("RESULT"))
        return Load(line, cpu_seconds(self.processes[port]) - before)

    def rounds(self, connections, targets):
        """Loads each target in turn, as often as there are rounds; returns the loads by target's name."""
        loads = defaultdict(list)
        for _ in range(self.options.rounds):
            for name, (port, body) in targets.items():
                loads[name].append(self.load(port, connections, body=body))
        return loads

    def sidecar(self, binary=SIDECAR, **keys):
        process, port = self.programs.sidecar(self.upstream, binary=binary, **keys)
        self.processes[port] = process
        return port

    def configured(self, name, template, *arguments):
        port = free_port()
        path = self.programs.directory / f"{name}.conf"
        path.write_text(template.format(port=port, upstream=self.upstream, directory=self.programs.directory))
        self.processes[port] = self.programs.start([self.found[name], *arguments, path], port)
        return port

    def pass_through(self):
        targets = {"direct": (self.upstream, None), "sidecar": (self.sidecar(), None)}
        if self.options.compare:
            targets["compared"] = (self.sidecar(self.options.compare), None)
        targets["nginx"] = (self.configured("nginx", NGINX, "-e", "stderr", "-c"), None)
        targets["haproxy"] = (self.configured("haproxy", HAPROXY, "-f"), None)
        warm_up(self, targets)
        print(f"Pass-through, medians of {self.options.rounds} rounds of {self.options.seconds} s")
        for connections in self.options.connections:
            loads = self.rounds(connections, targets)
            table(connections, loads)
            for name in [n for n in ("sidecar", "compared") if n in loads]:
                judge(name, connections, loads)

    def limited(self):
        port = self.sidecar(**HUGE_RATE)
        targets = {"pass-through": (port, PASS_THROUGH), "limited": (port, LIMITED)}
        if self.options.compare:
            other = self.sidecar(self.options.compare, **HUGE_RATE)
            targets |= {"compared pass-through": (other, PASS_THROUGH), "compared limited": (other, LIMITED)}
        warm_up(self, targets)
        print(f"\nLimited beside pass-through, POST, medians of {self.options.rounds} rounds of {self.options.seconds} s")
        for connections in self.options.connections:
            loads = self.rounds(connections, targets)
            table(connections, loads)
            for prefix in ["", "compared "] if self.options.compare else [""]:
                ratio = ratio_of(loads, prefix + "limited", prefix + "pass-through")
                print(f"  {prefix}throughput, limited / pass-through: {ratio:.2f} ({verdict(ratio, 0.8, True)})")

    def soak(self):
        """Whether the limited path keeps its share of pass-through's throughput while its window fills and turns over."""
        port = self.sidecar(**HUGE_RATE)
        step = max(self.options.seconds, 5)
        print(f"Limited path over {self.options.soak_seconds} s, c=16: limited / pass-through, every {12 * step} s")
        shares = []
        for _ in range(max(1, self.options.soak_seconds // (12 * step))):
            limited = [self.load(port, 16, step, LIMITED).rate for _ in range(10)]
            reference = [self.load(port, 16, step, PASS_THROUGH).rate for _ in range(2)]
            shares.append(median(limited) / median(reference))
            print(f"  limited {median(limited):.0f}/s, pass-through {median(reference):.0f}/s: {shares[-1]:.2f}", flush=True)
        print(f"  last / first: {shares[-1] / shares[0]:.2f}")


HUGE_RATE = {"rate_rpm": 10_000_000, "bucket_capacity": 10_000_000}


def warm_up(bench, targets):
    for port, body in targets.values():
        bench.load(port, 64, 1, body)


def ratio_of(loads, above, below, figure="rate"):
    """The median over the rounds of one target's figure divided by another's in the same round."""
    pairs = zip(loads[above], loads[below])
    return median([getattr(a, figure) / getattr(b, figure) for a, b in pairs])


def table(connections, loads):
    print(f"c={connections:<3} {'requests/s':>22} {'p50 us':>9} {'p99 us':>9} {'cpu us':>9}")
    for name, of_name in loads.items():
        rate, p50, p99, cpu = (median([getattr(load, f) for load in of_name]) for f in ("rate", "p50", "p99", "cpu"))
        print(f"  {name:<22} {rate:>9.0f} {p50:>9.0f} {p99:>9.0f} {cpu:>9.1f}", flush=True)


def judge(name, connections, loads):
    bar = {16: 0.65, 64: 0.55}.get(connections)
    for other in ("nginx", "haproxy"):
        ratio = ratio_of(loads, name, other)
        note = f" ({verdict(ratio, bar, True)})" if bar and other == "nginx" else ""
        print(f"  throughput, {name} / {other}: {ratio:.2f}{note}")
    if connections == 1:
        p50 = {n: median([load.p50 for load in loads[n]]) for n in loads}
        ratio = (p50[name] - p50["direct"]) / max(p50["nginx"] - p50["direct"], 1)
        print(f"  added p50, {name} / nginx: {ratio:.2f} ({verdict(ratio, 1.6, False)})", flush=True)


if __name__ == "__main__":
    main()
