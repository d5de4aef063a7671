"""What both benchmark scripts need: programs on free loopback ports that end with the script, and their figures in /proc.

Only the standard library is used. Nothing here outlives the script: every process is started in a `with Programs()`
block and ended by its own id when the block is left.
"""

import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
SIDECAR = RELEASE / "nvidia-sidecar"
UPSTREAM = RELEASE / "examples" / "bench_upstream"


def build():
    """Builds the proxy and the benchmarks' upstream in the release profile."""
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bin", "nvidia-sidecar", "--example", "bench_upstream"],
        cwd=ROOT, check=True,
    )


def need(*programs):
    """Ends the script with a hint when a program is not installed."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = {name: shutil.which(name, path=search) for name in programs}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)} (Debian: apt-get install nginx-light haproxy wrk)")
    return found


def free_port():
    """A loopback port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raise_descriptor_limit():
    """Raises this process's soft limit on open files to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Programs:
    """The processes of a benchmark and a directory for their files; both are gone when the block is left."""

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="sidecar-bench-"))
        self.directory.chmod(0o755)
        self.running = []
        return self

    def __exit__(self, *_):
        for process in self.running:
            self.stop(process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, arguments, port=None, environment=None):
        """Starts a program and, with a port, waits until it listens there."""
        name = Path(arguments[0]).name
        errors = open(self.directory / f"{name}-{len(self.running)}.log", "wb")
        process = subprocess.Popen(
            [str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            env={**os.environ, **(environment or {})},
        )
        self.running.append(process)
        if port is not None and not listens(port, process):
            sys.exit(f"{name} does not listen on port {port}:\n" + Path(errors.name).read_text(errors="replace"))
        return process

    def sidecar(self, upstream_port, binary=SIDECAR, **keys):
        """Starts the proxy with these configuration keys; returns its process and its port."""
        port = free_port()
        config = {
            "listen_port": port, "metrics_port": free_port(), "upstream_url": f"http://127.0.0.1:{upstream_port}/v1",
            "upstream_api_key": "bench", **keys,
        }
        path = self.directory / f"sidecar-{port}.yaml"
        path.write_text("".join(f"{key}: {value}\n" for key, value in config.items()))
        return self.start([binary, "--config", path], port), port

    def stop(self, process):
        """Ends a process that this object started."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(port, process, within=10.0):
    """Whether `process` listens on `port` before `within` seconds are over."""
    until = time.monotonic() + within
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.005)
    return False


def resident_kib(process, key="VmRSS"):
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"no {key} for process {process.pid}")


def cpu_seconds(process):
    """Processor time that a process and its children have taken so far; nginx works in children."""
    total = 0
    for pid in [process.pid, *children(process.pid)]:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def children(pid):
    """The ids of a process's children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def median(values):
    """The middle value; of an even number, the mean of the two in the middle."""
    return statistics.median(values)


def verdict(figure, bar, at_least):
    """`figure` beside its bar, for a table."""
    reached = figure >= bar if at_least else figure <= bar
    return f"{'>=' if at_least else '<='} {bar:g} {'reached' if reached else 'MISSED'}"
