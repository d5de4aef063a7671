"""What do clients make of a long wait behind the sidecar itself? Its times are scaled down, the first sign of life comes after
0.2 s and the next ones every 0.3 s, in front of an upstream that takes its time and then does as it is told."""

import gzip
import re
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from sidecar import Sidecar, until

from answers import STREAMS, WHOLE
from judge import Raises, complaints
from peer import RESET, Play
from workers import PATHS, ClientPath

MODEL = "nvidia/m"
SETTINGS = {"keepalive_after": 0.2, "keepalive_interval": 0.3, "rate_rpm": 6000, "bucket_capacity": 6000}
# Until the upstream answers: two signs of life.
LONG = 0.7
# Each case has a sidecar of its own, so many at one time.
AT_ONCE = 24


@dataclass
class Case:
    """One call of one client through a sidecar of its own, and what came of it."""

    path: ClientPath
    # What the upstream does with each request.
    plays: list
    means: dict | Raises
    settings: dict = field(default_factory=dict)
    call: dict = field(default_factory=dict)
    requests: int = 1
    # Whether the only place at the upstream is taken at first, by a request that the first play is for.
    queued: bool = False
    # Whether it waits long enough for a sign of life.
    signs: bool = True
    found: list = field(default_factory=lambda: ["it was not run"])

    def run(self, clients, peer):
        script = peer.plays(*self.plays)
        sidecar = Sidecar(upstream_url=f"{script.base}/v1", **SETTINGS | self.settings)
        try:
            if self.queued:
                threading.Thread(target=sidecar.chat, kwargs={"model": MODEL}).start()
                until("the place at the upstream is taken", lambda: script.requests)
            got = clients.ask(self.path, base=sidecar.base, model=MODEL, **self.call)
            signs = sum(map(int, re.findall(r"^sidecar_keepalive_frames_total\{.*\} (\d+)", metrics(sidecar), re.M)))
        finally:
            sidecar.stop()
        self.found = complaints(got, self.means)
        asked = len(script.requests) - self.queued
        if asked != self.requests:
            self.found.append(f"the upstream was asked {asked} times, not {self.requests}")
        if bool(signs) != self.signs:
            self.found.append(f"{signs} signs of life were sent")
        if self.found:
            self.found += ["its sidecar's log:", *map(str.rstrip, sidecar.log)]


def metrics(sidecar):
    with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.metrics_port}/metrics", timeout=20) as answer:
        return answer.read().decode()


# --- What may happen to a request that waits ---

SAYS = "as the upstream says"
NIM_REFUSES = {"status": 429, "title": "Too Many Requests"}


def stream(answer, think=LONG, **options):
    return Play(answer.frames, think=think, **options)


def said(status, **headers):
    return Play.json(status, {"error": {"message": SAYS, "type": "its_own", "code": "its_code"}}, think=LONG, **headers)


def answered(path, answer, *before, **options):
    return Case(path, [*before, stream(answer)], answer.means, call={"tools": answer.tools}, **options)


def fails(path, answer, play, says="", kinds=None, **options):
    return Case(path, [play], Raises(kinds or path.raises, says), call={"tools": answer.tools}, **options)


def while_it_thinks(path, answer):
    return answered(path, answer)


def in_the_queue(path, answer):
    holder = Play.json(200, WHOLE["chat"], think=LONG)
    return answered(path, answer, holder, queued=True, settings={"max_in_flight": 1})


def in_mid_stream(path, answer):
    pieces = [piece for frame in answer.frames[:3] for piece in (frame, LONG)] + answer.frames[3:]
    return Case(path, [Play(pieces)], answer.means, call={"tools": answer.tools})


def refused_at_first(path, answer):
    return answered(path, answer, Play.json(429, NIM_REFUSES, think=LONG, retry_after="1"), requests=2)


def refused_at_last(path, answer):
    return fails(path, answer, said(429, retry_after="7"), SAYS, settings={"max_attempts": 1})


def refused_the_key(path, answer):
    return fails(path, answer, said(401), SAYS)


def failed_upstream(path, answer):
    return fails(path, answer, said(500), SAYS)


def timed_out_upstream(path, answer):
    return fails(path, answer, said(504), SAYS)


def never_answered(path, answer):
    return fails(path, answer, stream(answer, think=60), "upstream", settings={"first_byte_timeout": 1})


def reset_before_the_head(path, answer):
    return fails(path, answer, Play(status=0, think=LONG, end=RESET), "reset", settings={"max_attempts": 1})


def reset_in_mid_stream(path, answer):
    return fails(path, answer, Play([*answer.frames[:2], LONG], end=RESET), "upstream")


def accepted_for_later(path, answer):
    return fails(path, answer, Play.json(202, {}, think=LONG, nvcf_reqid="1"), "202")


def answered_whole(path, answer):
    return fails(path, answer, Play.json(200, {"object": "not a stream"}, think=LONG))


def compressed(path, answer):
    packed = gzip.compress("".join(answer.frames).encode())
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    return fails(path, answer, Play([packed], headers=headers, think=LONG))


SCENARIOS = [
    while_it_thinks,
    in_the_queue,
    in_mid_stream,
    refused_at_first,
    refused_at_last,
    refused_the_key,
    failed_upstream,
    timed_out_upstream,
    never_answered,
    reset_before_the_head,
    reset_in_mid_stream,
    accepted_for_later,
    answered_whole,
    compressed,
]


# --- Clients that lose patience ---

IMPATIENT = {
    "openai_chat": {"timeout": 1},
    "langchain_chat_async": {"chunk_timeout": 1},
    "anthropic_messages": {"timeout": 1},
    "openai_responses": {"timeout": 1},
    "node_chat": {"silence": 1.5},
    "langchainjs_chat": {"silence": 1.5},
}


def impatient(path, limit):
    answer = STREAMS[path.endpoint]["text"]
    return Case(path, [stream(answer, think=4 * LONG)], answer.means, call=limit)


# --- SDKs that ask again by themselves ---

RETRYING = [
    "openai_chat",
    "langchain_chat",
    "node_chat",
    "langchainjs_chat",
    "vercel_openai_chat",
    "vercel_compatible_chat",
    "anthropic_messages",
    "node_anthropic_messages",
]
RETRIES = {"retries": 2}
AT_ONCE_REFUSED = Play.json(429, NIM_REFUSES, retry_after="1")


def comes_back_after_a_refusal(path):
    """What is known before the first sign of life has its true status, and the SDK acts on it."""
    answer = STREAMS[path.endpoint]["text"]
    settings = {"max_attempts": 1, "keepalive_after": 40}
    plays = [AT_ONCE_REFUSED, stream(answer, think=0)]
    return Case(path, plays, answer.means, settings, RETRIES, requests=2, signs=False)


def does_not_come_back_when_told_so(path):
    """As the sidecar's own 504 tells it, on which three tickets would be spent otherwise. Not read by Vercel's SDK and LangChain for JavaScript."""
    refusal = Play.json(504, {"error": {"message": SAYS}}, x_should_retry="false")
    requests = 3 if path.name.startswith(("vercel", "langchainjs")) else 1
    kinds = (*path.raises, "AI_RetryError")
    return Case(path, [refusal], Raises(kinds, SAYS), call=RETRIES, requests=requests, signs=False)


def does_not_come_back_after_an_early_200(path):
    """But for one that reads the status in the error frame, and treats it as it would treat the status itself."""
    requests = 3 if path.name == "vercel_openai_chat" else 1
    return Case(path, [said(500)], Raises((*path.raises, "AI_RetryError"), SAYS), call=RETRIES, requests=requests)


def cases():
    paths = {path.name: path for path in PATHS}
    for name, limit in IMPATIENT.items():
        yield pytest.param(impatient(paths[name], limit), id=f"{name}, impatient, {limit}")
    for scenario in (comes_back_after_a_refusal, does_not_come_back_when_told_so, does_not_come_back_after_an_early_200):
        for name in RETRYING:
            yield pytest.param(scenario(paths[name]), id=f"{name}, {scenario.__name__.replace('_', ' ')}")
    for scenario in SCENARIOS:
        for path in PATHS:
            answers = STREAMS[path.endpoint]
            # Tool calls are what agents live by.
            name = "tool" if path.tools and scenario in (while_it_thinks, in_mid_stream) or not path.text else "text"
            yield pytest.param(scenario(path, answers[name]), id=f"{path}, {scenario.__name__.replace('_', ' ')}")


@pytest.fixture(scope="module", autouse=True)
def played(request, clients, peer):
    """Runs the cases of all the tests that were selected, some at one time."""
    selected = [item.callspec.params.get("case") for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(case.run, clients, peer) for case in selected if case]:
            done.result()


@pytest.mark.parametrize("case", list(cases()))
def test_a_client_that_waits(case):
    assert not case.found, "\n".join(case.found)
