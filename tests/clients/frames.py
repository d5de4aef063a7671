"""The frames that the sidecar puts into a stream itself, from `frames.json`: the one place where the tests have them."""

import json
from dataclasses import dataclass
from pathlib import Path

FRAMES = json.loads(Path(__file__).with_name("frames.json").read_text())
CREATED = "1780000001"


def fill(template, **values):
    # Not str.format: the frames are full of braces.
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", str(value))
    return template


def forms(path):
    """The signs of life that this client may get."""
    own = [] if path.comments else [path.endpoint]
    return [form for form in [*own, "comment"] if form in FRAMES["signs"]]


def sign(form, id="", model="m"):
    return fill(FRAMES["signs"][form], id=id, created=CREATED, model=model)


@dataclass(frozen=True)
class Fault:
    """What ends a stream early, in OpenAI's words and in Anthropic's."""

    name: str
    status: int
    type: str
    code: str
    message: str
    anthropic: str

    def __str__(self):
        return self.name

    def frame(self, endpoint, number=0):
        type = self.anthropic if endpoint == "messages" else self.type
        known = {"status": self.status, "type": type, "code": self.code, "message": self.message, "number": number}
        return fill(FRAMES["errors"][endpoint], **known)


FAULTS = [
    Fault("refused", 429, "RateLimitedError", "rate_limit_exceeded", "too many requests; try again in 12 s", "rate_limit_error"),
    Fault("unauthorized", 401, "authentication_error", "invalid_api_key", "the key is not known", "authentication_error"),
    Fault("removed", 403, "Removed", "removed_by_operator", "removed by the operator", "permission_error"),
    Fault("failed", 500, "server_error", "internal_error", "the model fell over", "api_error"),
    Fault("broken", 502, "UpstreamError", "upstream_error", "the upstream's answer broke off", "api_error"),
    Fault("overloaded", 503, "QueueFullError", "queue_full", "the queue is full", "overloaded_error"),
    Fault("silent", 504, "UpstreamTimeout", "upstream_timeout", "the upstream is silent", "timeout_error"),
]
