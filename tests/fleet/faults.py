"""What can go wrong in a fleet, one function a fault: each lets a busy fleet run through it and gives what the upstream saw."""

import signal
import socket
import threading
import time

from fleet import Load, Redis, Sidecar, Upstream
from sidecar import until

LIMIT = 40


class Switch:
    """A relay between sidecars and Redis: it can lead elsewhere, hold back one direction, or refuse."""

    def __init__(self, target):
        self.target, self.open, self.answers = target, True, True
        self.pairs, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 2)
            except OSError:
                near.close()
                continue
            for end in near, far:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.append((near, far))
            threading.Thread(target=self.relay, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self.relay, args=(far, near, True), daemon=True).start()

    def relay(self, source, sink, is_answer):
        try:
            while data := source.recv(65536):
                while is_answer and not self.answers:
                    time.sleep(0.01)
                sink.sendall(data)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other direction has ended it

    def cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    def lead_to(self, target):
        self.target = target
        self.cut()

    def close(self):
        self.listener.close()
        self.cut()


class Trial:
    """A fleet of three at work; everything that it started ends with it."""

    def __init__(self, window, replicas=3, clock=False, state_files=False, clients=12, **config):
        self.window, self.ended = window, []
        self.redis = self.started(Redis(clock=clock))
        self.switch = Switch(self.redis.port)
        self.upstream = self.started(Upstream())
        # A switch for each, so that one can be cut off alone.
        self.switches, self.sidecars = [], []
        for n in range(replicas):
            switch = self.switch if n else Switch(self.redis.port)
            self.switches.append(switch)
            sidecar = Sidecar(
                f"r{n}", self.upstream, f"redis://127.0.0.1:{switch.port}", rate_window=window,
                rate_rpm=LIMIT * 60 // window, **config,
            )
            self.sidecars.append(self.started(sidecar))
        if state_files:
            for sidecar in self.sidecars:
                sidecar.kill()
                sidecar.config["state_file"] = str(sidecar.directory / "state")
                sidecar.start()
        for sidecar in self.sidecars:
            until("all joined", lambda: sidecar.fleet()["standing"] == "joined", 4 * window + 30)
        self.load = Load(self.sidecars, clients)
        self.began = time.monotonic()

    def started(self, thing):
        self.ended.append(thing)
        return thing

    def run(self, seconds):
        time.sleep(seconds)

    def everybody_leads_to(self, port):
        for switch in {*self.switches}:
            switch.lead_to(port)

    def sent_since(self, moment):
        return self.upstream.between(moment, time.monotonic())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if hasattr(self, "load"):
            self.load.stop()
        for thing in reversed(self.ended):
            thing.stop()
        for switch in {*self.switches, self.switch}:
            switch.close()

    def worst(self):
        return self.upstream.worst(self.window)


def plain(trial):
    trial.run(2 * trial.window)


def sidecar_killed(trial):
    trial.run(1.2 * trial.window)
    trial.sidecars[0].kill()
    trial.run(2 * trial.window)


def sidecar_killed_and_back(trial):
    trial.run(1.2 * trial.window)
    trial.sidecars[0].kill()
    trial.run(1)
    trial.sidecars[0].start()
    trial.run(2 * trial.window)


def redis_restarts_empty(trial, away=1.0):
    trial.run(1.2 * trial.window)
    trial.redis.kill()
    trial.run(away)
    trial.redis.start()
    trial.run(2 * trial.window)


def both_killed(trial):
    trial.run(1.2 * trial.window)
    trial.sidecars[0].kill()
    trial.redis.kill()
    trial.run(0.5)
    trial.redis.start()
    trial.sidecars[0].start()
    trial.run(2.5 * trial.window)


def everything_killed(trial):
    """All at one time: only state files know what was sent; without them a fresh fleet waits for a window."""
    trial.run(1.2 * trial.window)
    for sidecar in trial.sidecars:
        sidecar.kill()
    trial.redis.kill()
    trial.redis.start()
    for sidecar in trial.sidecars:
        sidecar.start()
    trial.run(3 * trial.window)


def flushed_twice(trial):
    trial.run(1.1 * trial.window)
    trial.redis.cli("flushall")
    trial.run(1.1 * trial.window)
    trial.redis.cli("flushall")
    trial.run(1.5 * trial.window)


def scripts_flushed(trial):
    trial.run(0.5 * trial.window)
    trial.redis.cli("script", "flush")
    trial.run(1.5 * trial.window)


def failover_loses_the_last_second(trial):
    """The replica stops following a second before the first server dies and it is promoted."""
    replica = trial.started(Redis("--replicaof", f"127.0.0.1 {trial.redis.port}"))
    until("the replica follows", lambda: "master_link_status:up" in replica.cli("info", "replication"))
    trial.run(1.2 * trial.window)
    replica.cli("replicaof", "no", "one")
    trial.run(1)
    trial.redis.kill()
    trial.everybody_leads_to(replica.port)
    trial.run(2 * trial.window)


def sidecar_frozen(trial, seconds=3.0):
    trial.run(1.2 * trial.window)
    trial.sidecars[0].signal(signal.SIGSTOP)
    trial.run(seconds)
    trial.sidecars[0].signal(signal.SIGCONT)
    trial.run(1.5 * trial.window)


def redis_frozen(trial, seconds=3.0):
    trial.run(1.2 * trial.window)
    trial.redis.signal(signal.SIGSTOP)
    trial.run(seconds)
    trial.redis.signal(signal.SIGCONT)
    trial.run(1.5 * trial.window)


def clock_jumps(trial, seconds=10):
    trial.run(1.1 * trial.window)
    trial.redis.set_clock(seconds)
    trial.run(1.3 * trial.window)
    trial.redis.set_clock(0)
    trial.run(1.3 * trial.window)


def clock_jumps_back(trial):
    clock_jumps(trial, -10)


def one_is_cut_off(trial):
    """Its calls arrive, the answers do not."""
    trial.run(1.1 * trial.window)
    trial.switches[0].answers = False
    trial.run(1.2 * trial.window)
    trial.switches[0].answers = True
    trial.run(1.2 * trial.window)


def out_of_memory(trial):
    trial.run(trial.window)
    trial.redis.cli("config", "set", "maxmemory", "1")
    trial.run(trial.window)
    trial.redis.cli("config", "set", "maxmemory", "0")
    trial.run(1.5 * trial.window)


def read_only(trial):
    trial.run(trial.window)
    trial.redis.cli("config", "set", "replica-serve-stale-data", "yes")
    trial.redis.cli("replicaof", "127.0.0.1", "1")
    trial.run(trial.window)
    trial.redis.cli("replicaof", "no", "one")
    trial.run(1.5 * trial.window)


def password_changed(trial):
    trial.run(trial.window)
    trial.redis.cli("acl", "setuser", "sidecar", "resetpass", ">another")
    trial.redis.cli("client", "kill", "user", "sidecar")
    trial.run(0.8 * trial.window)
    for sidecar in trial.sidecars:
        (sidecar.directory / "password").write_text("another\n")
    trial.run(1.5 * trial.window)


FAULTS = {
    "plain": plain,
    "sidecar killed": sidecar_killed,
    "sidecar killed and back": sidecar_killed_and_back,
    "Redis restarts empty": redis_restarts_empty,
    "both killed": both_killed,
    "everything killed": everything_killed,
    "FLUSHALL twice": flushed_twice,
    "SCRIPT FLUSH": scripts_flushed,
    "failover loses its last second": failover_loses_the_last_second,
    "sidecar frozen": sidecar_frozen,
    "Redis frozen": redis_frozen,
    "clock +10 s and back": clock_jumps,
    "clock -10 s and back": clock_jumps_back,
    "answers cut off": one_is_cut_off,
    "out of memory": out_of_memory,
    "read-only": read_only,
    "password changed": password_changed,
}
NEEDS_CLOCK = {"clock +10 s and back", "clock -10 s and back"}


def run(name, window, **options):
    """One trial; gives the most requests in any window, all requests, and the seconds that it took."""
    with Trial(window, clock=name in NEEDS_CLOCK, **options) as trial:
        FAULTS[name](trial)
        took = time.monotonic() - trial.began
        return {
            "worst": trial.worst(), "sent": len(trial.upstream.times()), "seconds": took, "statuses": dict(trial.load.statuses),
            "last": time.monotonic() - max(trial.upstream.times(), default=0),
        }
