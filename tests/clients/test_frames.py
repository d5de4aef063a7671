"""Do clients' parsers stand the frames that the sidecar sends? A scripted peer sends them, at every place where they may come."""

from dataclasses import dataclass, field

import pytest

from answers import STREAMS, WHOLE
from frames import FAULTS, FRAMES, forms, sign
from judge import Raises, complaints
from peer import CUT, Play
from workers import BROKEN, PATHS, ClientPath


@dataclass
class Case:
    """One call of one client, and what came of it."""

    path: ClientPath
    # What is sent, in words: printed when it is misunderstood.
    what: str
    play: Play
    call: dict = field(default_factory=dict)
    # What the client shall understand, or raise.
    means: dict | Raises = field(default_factory=dict)
    got: dict = None
    requests: int = 0

    def run(self, clients, peer):
        script = peer.plays(self.play)
        self.got = clients.ask(self.path, base=script.base, **self.call)
        self.requests = len(script.requests)

    def complaints(self):
        """What is not as it should be, as lines."""
        where = f"{self.path}, {self.what}"
        if self.got is None:
            return [f"{where}: no result"]
        asked = [] if self.requests == 1 else [f"{self.requests} requests were sent"]
        return [f"{where}: {complaint}" for complaint in asked + complaints(self.got, self.means)]


@dataclass
class Group:
    """The cases of one test."""

    name: str
    cases: list

    def __str__(self):
        return self.name


# --- Signs of life at every place ---


def with_signs(path, answer, form):
    """(where, pieces): signs of life at each place alone, and at all of them."""
    # Before the upstream's first frame its id is not known.
    unknown, known = sign(form, ""), sign(form, answer.id)
    frames = answer.frames
    places = [n for n in range(1, len(frames)) if not (path.last_usage and '"usage": {' in frames[n - 1])]
    yield "twice before the first frame", [unknown, unknown, *frames]
    for number in places:
        yield f"after {frames[number - 1].strip()}", [*frames[:number], known, *frames[number:]]
    after = {0: [unknown]} | {number: [known] for number in places}
    yield "everywhere", [piece for number, frame in enumerate(frames) for piece in (*after.get(number, []), frame)]


def signs_of_life():
    for path in PATHS:
        for name, answer in STREAMS[path.endpoint].items():
            asked = path.tools if answer.tools else path.text
            if asked and not (path.first_choice and answer.without_choice):
                for form in forms(path):
                    cases = [
                        Case(path, f"{form} {where}", Play(pieces), {"tools": answer.tools}, answer.means)
                        for where, pieces in with_signs(path, answer, form)
                    ]
                    yield Group(f"{path}, {name}, {form}", cases)


# --- Errors after an early 200 ---


def faults():
    for path in PATHS:
        answer = STREAMS[path.endpoint]["text" if path.text else "tool"]
        call = {"tools": answer.tools}
        for fault in FAULTS:
            raises = Raises(path.raises, fault.message)
            cases = [
                Case(
                    path,
                    f"{fault} after two signs of the form {form}",
                    Play([sign(form)] * 2 + [fault.frame(path.endpoint)], end=CUT),
                    call,
                    raises,
                )
                for form in forms(path)
            ]
            begun = answer.frames[:2] + [sign(forms(path)[0], answer.id), fault.frame(path.endpoint, number=2)]
            cases.append(Case(path, f"{fault} in mid-stream", Play(begun, end=CUT), call, raises))
            yield Group(f"{path}, {fault}", cases)


# --- Answers that are not streams ---


def whole_answers():
    newlines = [FRAMES["signs"]["json"], 0.05] * 2
    for path in PATHS:
        if path.whole:
            asked = {"stream": False}
            answer = Play.json(200, WHOLE[path.endpoint], before=newlines)
            broken = Play.json(200, {"error": {"message": "the queue is full"}}, before=newlines, end=CUT)
            cases = [
                Case(path, "newlines before the JSON", answer, asked, {"text": "Hello", "usage": 3}),
                Case(
                    path, "an error after newlines, which breaks off", broken, asked, Raises(BROKEN.get(path.raises, path.raises))
                ),
            ]
            yield Group(str(path), cases)


# --- Patience ---

# (path, how it loses patience within a second or two, the signs that it takes for progress)
IMPATIENT = [
    ("openai_chat", {"timeout": 1}, ["chat", "comment"]),
    # It counts parsed chunks, and a comment is not one.
    ("langchain_chat_async", {"chunk_timeout": 1}, ["chat"]),
    ("anthropic_messages", {"timeout": 1}, ["messages", "comment"]),
    ("openai_responses", {"timeout": 1}, ["comment"]),
    # Node's fetch counts bytes.
    ("node_chat", {"silence": 1.5}, ["chat", "comment"]),
    ("langchainjs_chat", {"silence": 1.5}, ["comment"]),
]
SILENCE = 4.0
EVERY = 0.4
IMPATIENCE = Raises(("builtins.Exception", "Error"))


def patience():
    for name, limit, signs in IMPATIENT:
        path = next(path for path in PATHS if path.name == name)
        answer = STREAMS[path.endpoint]["text"]

        def case(what, before, means, path=path, limit=limit, answer=answer):
            return Case(path, what, Play(before + answer.frames), limit, means)

        cases = [
            case(f"{form} every {EVERY} s for {SILENCE} s", [sign(form), EVERY] * round(SILENCE / EVERY), answer.means)
            for form in signs
        ]
        # Without them it would not live, so that the above says something.
        cases.append(case(f"silent for {SILENCE} s", [sign(signs[0]), SILENCE], IMPATIENCE))
        yield Group(f"{path} with {limit}", cases)


SIGNS = list(signs_of_life())
ERRORS = list(faults())
WHOLES = list(whole_answers())
PATIENCE = list(patience())


@pytest.fixture(scope="module", autouse=True)
def played(request, clients, peer):
    """Runs the cases of all the tests that were selected, the clients' processes side by side."""
    groups = [item.callspec.params["group"] for item in request.session.items if item.module is request.module]
    cases = [case for group in groups for case in group.cases]
    clients.run([(case.path, lambda case=case: case.run(clients, peer)) for case in cases])


def holds(group):
    complaints = [line for case in group.cases for line in case.complaints()]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("group", SIGNS, ids=str)
def test_signs_of_life_change_nothing_of_an_answer(group):
    holds(group)


@pytest.mark.parametrize("group", ERRORS, ids=str)
def test_an_error_after_an_early_200_is_raised(group):
    holds(group)


@pytest.mark.parametrize("group", WHOLES, ids=str)
def test_newlines_before_an_answer_that_is_not_a_stream(group):
    holds(group)


@pytest.mark.parametrize("group", PATIENCE, ids=str)
def test_signs_of_life_are_progress_to_a_client_that_counts(group):
    holds(group)
