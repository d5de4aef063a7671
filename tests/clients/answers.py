"""What an upstream answers, as lists of frames, and what a client has understood when it got all of them."""

import json
from dataclasses import dataclass


@dataclass
class Answer:
    """A stream's frames, in order, and the parts of the result that a path reports are compared with `means`."""

    frames: list
    means: dict
    id: str
    tools: bool = False
    # Frames of which a careless reader's `choices[0]` would fail on the upstream's own account.
    without_choice: bool = False


def data(event, /, **fields):
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(fields)}\n\n"


def chat(delta, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1780000000, "model": "m", "choices": choices}
    return data(None, **chunk | more)


def call(index, **fields):
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return {"tool_calls": [{"index": index, **fields, "function": function}]}


DONE = "data: [DONE]\n\n"
OPEN = chat({"role": "assistant", "content": ""})
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
START_OF_CALL = {"id": "call_1", "type": "function", "name": "f", "arguments": ""}
CALL = [
    chat({"role": "assistant", "content": None} | call(0, **START_OF_CALL)),
    chat(call(0, arguments='{"a":')),
    chat(call(0, arguments=" 1}")),
]
USED = {"text": "", "tools": [["f", {"a": 1}]], "content": None, "role": "assistant", "id": "chatcmpl-1"}
SAID = {"text": "Hello", "tools": [], "content": "Hello", "role": "assistant", "id": "chatcmpl-1"}

CHAT = {
    "text": Answer(
        [OPEN, chat({"content": "Hel"}), chat({"content": "lo"}), chat({}, "stop"), DONE],
        SAID | {"finish": "stop"},
        "chatcmpl-1",
    ),
    "usage": Answer(
        [OPEN, chat({"content": "Hello"}), chat({}, "stop"), chat(None, usage=USAGE), DONE],
        SAID | {"usage": 3, "finish": "stop"},
        "chatcmpl-1",
        without_choice=True,
    ),
    # As NIM's reasoning models do it.
    "reasoning": Answer(
        [OPEN, chat({"reasoning_content": "Hm."}), chat({"content": "Hello"}), chat({}, "stop"), DONE],
        SAID | {"finish": "stop"},
        "chatcmpl-1",
    ),
    "tool": Answer([*CALL, chat({}, "tool_calls"), DONE], USED | {"finish": "tool_calls"}, "chatcmpl-1", tools=True),
    "tool and usage": Answer(
        [*CALL, chat({}, "tool_calls"), chat(None, usage=USAGE), DONE],
        USED | {"usage": 3, "finish": "tool_calls"},
        "chatcmpl-1",
        tools=True,
        without_choice=True,
    ),
}


def completion(text, finish=None):
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return data(None, id="cmpl-1", object="text_completion", created=1780000000, model="m", choices=[choice])


COMPLETIONS = {
    "text": Answer(
        [completion("Hel"), completion("lo"), completion("", "stop"), DONE], {"text": "Hello", "finish": "stop"}, "cmpl-1"
    )
}


def event(name, /, **fields):
    return data(name, type=name, **fields)


def message(blocks, stop_reason):
    empty = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    ends = {"stop_reason": None, "stop_sequence": None}
    return [
        event("message_start", message=empty | ends | {"usage": {"input_tokens": 1, "output_tokens": 1}}),
        *blocks,
        event("message_delta", delta=ends | {"stop_reason": stop_reason}, usage={"output_tokens": 2}),
        event("message_stop"),
    ]


def block(index, start, *deltas):
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


TEXT_BLOCK = block(0, {"type": "text", "text": ""}, *({"type": "text_delta", "text": text} for text in ("Hel", "lo")))
TOOL_BLOCK = block(
    0,
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    *({"type": "input_json_delta", "partial_json": text} for text in ('{"a":', " 1}")),
)
MESSAGES = {
    "text": Answer(message(TEXT_BLOCK, "end_turn"), SAID | {"id": "msg_1", "usage": 3, "finish": "stop"}, "msg_1"),
    "tool": Answer(
        message(TOOL_BLOCK, "tool_use"), USED | {"id": "msg_1", "usage": 3, "finish": "tool_calls"}, "msg_1", tools=True
    ),
}


def response(item, *deltas):
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1780000000,
        "status": "in_progress",
        "model": "m",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "total_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    begun = {"content": []} if item["type"] == "message" else {"arguments": ""}
    events = [
        ("response.created", {"response": whole}),
        ("response.output_item.added", {"output_index": 0, "item": item | begun | {"status": "in_progress"}}),
        *deltas,
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole | {"status": "completed", "output": [item], "usage": usage}}),
    ]
    return [event(name, sequence_number=number, **fields) for number, (name, fields) in enumerate(events)]


def output_text(text):
    return {"type": "output_text", "text": text, "annotations": []}


IN_TEXT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
IN_CALL = {"item_id": "fc_1", "output_index": 0}
RESPONSES = {
    "text": Answer(
        response(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [output_text("Hello")]},
            ("response.content_part.added", IN_TEXT | {"part": output_text("")}),
            ("response.output_text.delta", IN_TEXT | {"delta": "Hel", "logprobs": []}),
            ("response.output_text.delta", IN_TEXT | {"delta": "lo", "logprobs": []}),
            ("response.output_text.done", IN_TEXT | {"text": "Hello", "logprobs": []}),
            ("response.content_part.done", IN_TEXT | {"part": output_text("Hello")}),
        ),
        SAID | {"id": "resp_1", "usage": 3, "finish": "stop"},
        "resp_1",
    ),
    "tool": Answer(
        response(
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "f",
                "arguments": '{"a": 1}',
                "status": "completed",
            },
            ("response.function_call_arguments.delta", IN_CALL | {"delta": '{"a":'}),
            ("response.function_call_arguments.delta", IN_CALL | {"delta": " 1}"}),
            ("response.function_call_arguments.done", IN_CALL | {"name": "f", "arguments": '{"a": 1}'}),
        ),
        USED | {"id": "resp_1", "usage": 3, "finish": "tool_calls"},
        "resp_1",
        tools=True,
    ),
}

STREAMS = {"chat": CHAT, "completions": COMPLETIONS, "messages": MESSAGES, "responses": RESPONSES}

# Answers that are not streams.
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
WHOLE = {
    "chat": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1780000000,
        "model": "m",
        "choices": [CHOICE],
        "usage": USAGE,
    },
    "messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    },
}
