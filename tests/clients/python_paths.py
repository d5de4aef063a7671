"""Client paths in Python: each asks one question through one library's one way of streaming, and says what it understood.

Run as a process of its own it takes one JSON line per call on standard input and answers each with one on standard output,
several at a time; `workers.py` is the other side. A library is imported when it is first called.
"""

import asyncio
import json
import logging
import os
import ssl
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

QUESTION = "hi"
MESSAGES = [{"role": "user", "content": QUESTION}]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "the tool", "parameters": PARAMETERS}}]
# Ours, so that a hanging client is a failure with a name; the cases themselves set shorter ones where they are about patience.
TIMEOUT = 60

PATHS = {}


def path(function):
    PATHS[function.__name__] = function
    return function


class Call:
    """What is asked: `base` without `/v1`, and how."""

    def __init__(
        self, base, model="m", tools=False, stream=True, retries=0, timeout=TIMEOUT, chunk_timeout=TIMEOUT, headers=None
    ):
        self.base, self.url, self.model, self.tools, self.stream = base, f"{base}/v1", model, tools, stream
        self.retries, self.timeout, self.chunk_timeout, self.headers = retries, timeout, chunk_timeout, headers or {}

    def openai(self, kind="OpenAI"):
        import openai

        return getattr(openai, kind)(
            base_url=self.url, api_key="x", max_retries=self.retries, timeout=self.timeout, default_headers=self.headers
        )

    def anthropic(self):
        import anthropic

        return anthropic.Anthropic(
            base_url=self.base, api_key="x", max_retries=self.retries, timeout=self.timeout, default_headers=self.headers
        )

    def with_tools(self, **options):
        return options | ({"tools": TOOLS} if self.tools else {})


class Sum:
    """Adds a chat's chunks up as a careful reader of the raw stream does."""

    def __init__(self):
        self.text, self.tools, self.usage, self.finish = "", {}, None, None

    def add(self, chunk):
        if getattr(chunk, "usage", None):
            self.usage = chunk.usage.total_tokens
        for choice in chunk.choices:
            self.text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                name, arguments = self.tools.get(call.index, ("", ""))
                self.tools[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
            self.finish = choice.finish_reason or self.finish

    def result(self):
        tools = [[name, json.loads(arguments)] for name, arguments in self.tools.values()]
        return {"text": self.text, "tools": tools, "usage": self.usage, "finish": self.finish}


def of_message(message, **more):
    tools = [[c.function.name, json.loads(c.function.arguments)] for c in message.tool_calls or []]
    return {"text": message.content or "", "content": message.content, "tools": tools, "role": message.role} | more


# --- Chat completions ---


@path
def openai_chat(call):
    asked = call.openai().chat.completions.create(model=call.model, messages=MESSAGES, **call.with_tools(stream=call.stream))
    if not call.stream:
        return of_message(asked.choices[0].message, usage=asked.usage.total_tokens)
    total = Sum()
    for chunk in asked:
        total.add(chunk)
    return total.result()


@path
def openai_chat_async(call):
    async def ask():
        async with call.openai("AsyncOpenAI") as client:
            options = call.with_tools(stream=call.stream)
            asked = await client.chat.completions.create(model=call.model, messages=MESSAGES, **options)
            if not call.stream:
                return of_message(asked.choices[0].message, usage=asked.usage.total_tokens)
            total = Sum()
            async for chunk in asked:
                total.add(chunk)
            return total.result()

    return asyncio.run(ask())


@path
def openai_chat_helper(call):
    with call.openai().chat.completions.stream(model=call.model, messages=MESSAGES, **call.with_tools()) as stream:
        final = stream.get_final_completion()
    # Not its id: that is the first chunk's, and a sign of life before the upstream's first frame has none.
    usage = final.usage and final.usage.total_tokens
    return of_message(final.choices[0].message, usage=usage, finish=final.choices[0].finish_reason)


@path
def openai_chat_first_choice(call):
    """As most examples do it: the first choice of each chunk, taken without a look."""
    text = ""
    for chunk in call.openai().chat.completions.create(model=call.model, messages=MESSAGES, stream=True):
        text += chunk.choices[0].delta.content or ""
    return {"text": text}


def langchain(call):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        base_url=call.url,
        api_key="x",
        model=call.model,
        max_retries=call.retries,
        timeout=call.timeout,
        default_headers=call.headers,
        stream_usage=True,
        stream_chunk_timeout=call.chunk_timeout,
    )
    return model.bind_tools(TOOLS) if call.tools else model


def of_langchain(message):
    tools = [[c["name"], c["args"]] for c in message.tool_calls]
    usage = message.usage_metadata and message.usage_metadata["total_tokens"]
    return {"text": str(message.content), "tools": tools, "usage": usage}


@path
def langchain_chat(call):
    if not call.stream:
        return of_langchain(langchain(call).invoke(QUESTION))
    total = None
    for chunk in langchain(call).stream(QUESTION):
        total = chunk if total is None else total + chunk
    return of_langchain(total)


@path
def langchain_chat_async(call):
    async def ask():
        if not call.stream:
            return await langchain(call).ainvoke(QUESTION)
        total = None
        async for chunk in langchain(call).astream(QUESTION):
            total = chunk if total is None else total + chunk
        return total

    return of_langchain(asyncio.run(ask()))


def litellm_options(call):
    import litellm

    litellm.suppress_debug_info = True
    return {
        "api_key": "x",
        "num_retries": call.retries,
        "max_retries": call.retries,
        "timeout": call.timeout,
        "extra_headers": call.headers,
        # It drops the usage otherwise.
        **({"stream_options": {"include_usage": True}} if call.stream else {}),
    }


@path
def litellm_chat(call):
    import litellm

    options = litellm_options(call) | call.with_tools(stream=call.stream)
    asked = litellm.completion(model=f"openai/{call.model}", api_base=call.url, messages=MESSAGES, **options)
    if not call.stream:
        return of_message(asked.choices[0].message, usage=asked.usage.total_tokens)
    total = Sum()
    for chunk in asked:
        total.add(chunk)
    return total.result()


@path
def litellm_chat_async(call):
    import litellm

    async def ask():
        options = litellm_options(call) | call.with_tools(stream=call.stream)
        asked = await litellm.acompletion(model=f"openai/{call.model}", api_base=call.url, messages=MESSAGES, **options)
        if not call.stream:
            return of_message(asked.choices[0].message, usage=asked.usage.total_tokens)
        total = Sum()
        async for chunk in asked:
            total.add(chunk)
        return total.result()

    return asyncio.run(ask())


def pydantic_ai_ask(call, kind):
    from pydantic_ai import Agent
    from pydantic_ai.models import openai as models
    from pydantic_ai.providers.openai import OpenAIProvider

    used = []

    def f(a: int) -> str:
        """The tool, as a function whose result is the agent's output."""
        used.append(["f", {"a": a}])
        return ""

    async def ask():
        async with call.openai("AsyncOpenAI") as client:
            model = getattr(models, kind)(call.model, provider=OpenAIProvider(openai_client=client))
            from pydantic_ai import ToolOutput

            agent = Agent(model, output_type=ToolOutput(f, name="f") if call.tools else str, retries=0)
            if not call.stream:
                run = await agent.run(QUESTION)
                return run.output, run
            async with agent.run_stream(QUESTION) as run:
                return await run.get_output(), run

    output, run = asyncio.run(ask())
    usage = run.usage() if callable(run.usage) else run.usage
    return {"text": output, "tools": used, "usage": usage.total_tokens or None}


@path
def pydantic_ai_chat(call):
    return pydantic_ai_ask(call, "OpenAIChatModel")


def agents_ask(call, kind):
    import agents

    used = []

    @agents.function_tool
    def f(a: int) -> str:
        """The tool."""
        used.append(["f", {"a": a}])
        return "used"

    async def ask():
        async with call.openai("AsyncOpenAI") as client:
            agent = agents.Agent(
                name="agent",
                model=getattr(agents, kind)(model=call.model, openai_client=client),
                tools=[f] if call.tools else [],
                tool_use_behavior="stop_on_first_tool",
            )
            if not call.stream:
                return await agents.Runner.run(agent, QUESTION, max_turns=1)
            run = agents.Runner.run_streamed(agent, QUESTION, max_turns=1)
            async for _ in run.stream_events():
                pass
            return run

    run = asyncio.run(ask())
    usage = run.context_wrapper.usage.total_tokens or None
    return {"text": "" if call.tools else run.final_output, "tools": used, "usage": usage}


@path
def openai_agents_chat(call):
    return agents_ask(call, "OpenAIChatCompletionsModel")


@path
def instructor_chat(call):
    import instructor
    from pydantic import BaseModel

    class f(BaseModel):
        a: int

    client = instructor.from_openai(call.openai(), mode=instructor.Mode.TOOLS)
    options = {"model": call.model, "messages": MESSAGES, "max_retries": 1}
    if call.stream:
        *_, last = client.create_partial(response_model=f, **options)
    else:
        last = client.create(response_model=f, **options)
    return {"tools": [["f", {"a": last.a}]]}


@path
def haystack_chat(call):
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.tools import Tool
    from haystack.utils import Secret

    generator = OpenAIChatGenerator(
        api_key=Secret.from_token("x"),
        api_base_url=call.url,
        model=call.model,
        max_retries=call.retries,
        timeout=call.timeout,
        streaming_callback=(lambda chunk: None) if call.stream else None,
        tools=[Tool("f", "the tool", PARAMETERS, lambda a: "")] if call.tools else None,
        generation_kwargs={"extra_headers": call.headers},
    )
    reply = generator.run([ChatMessage.from_user(QUESTION)])["replies"][0]
    tools = [[c.tool_name, c.arguments] for c in reply.tool_calls]
    usage = (reply.meta.get("usage") or {}).get("total_tokens")
    return {"text": reply.text or "", "tools": tools, "usage": usage, "finish": reply.meta.get("finish_reason")}


@path
def huggingface_chat(call):
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=call.url, api_key="x", timeout=call.timeout, headers=call.headers)
    asked = client.chat_completion(messages=MESSAGES, model=call.model, **call.with_tools(stream=call.stream))
    if not call.stream:
        message = asked.choices[0].message
        return {"text": message.content or "", "usage": asked.usage.total_tokens}
    total = Sum()
    for chunk in asked:
        total.add(chunk)
    return total.result()


# --- Completions ---


@path
def openai_completions(call):
    asked = call.openai().completions.create(model=call.model, prompt=QUESTION, stream=True)
    return {"text": "".join(chunk.choices[0].text for chunk in asked)}


@path
def langchain_completions(call):
    from langchain_openai import OpenAI

    model = OpenAI(base_url=call.url, api_key="x", model=call.model, max_retries=call.retries, timeout=call.timeout)
    return {"text": "".join(model.stream(QUESTION))}


@path
def litellm_completions(call):
    import litellm

    asked = litellm.text_completion(
        model=f"text-completion-openai/{call.model}", api_base=call.url, prompt=QUESTION, stream=True, **litellm_options(call)
    )
    return {"text": "".join(chunk.choices[0].text or "" for chunk in asked if chunk.choices)}


# --- Messages ---

ANTHROPIC_TOOLS = [{"name": "f", "description": "the tool", "input_schema": PARAMETERS}]


def anthropic_options(call):
    return {"model": call.model, "max_tokens": 16, "messages": MESSAGES} | ({"tools": ANTHROPIC_TOOLS} if call.tools else {})


def of_anthropic(message):
    text = "".join(block.text for block in message.content if block.type == "text")
    tools = [[block.name, block.input] for block in message.content if block.type == "tool_use"]
    usage = message.usage.input_tokens + message.usage.output_tokens
    return {"text": text, "tools": tools, "usage": usage, "id": message.id, "role": message.role}


@path
def anthropic_messages(call):
    asked = call.anthropic().messages.create(stream=call.stream, **anthropic_options(call))
    if not call.stream:
        return of_anthropic(asked)
    text = "".join(
        event.delta.text for event in asked if event.type == "content_block_delta" and event.delta.type == "text_delta"
    )
    return {"text": text}


@path
def anthropic_messages_helper(call):
    with call.anthropic().messages.stream(**anthropic_options(call)) as stream:
        return of_anthropic(stream.get_final_message())


@path
def litellm_messages(call):
    import litellm

    options = litellm_options(call) | call.with_tools(stream=True)
    asked = litellm.completion(model=f"anthropic/{call.model}", api_base=call.base, messages=MESSAGES, **options)
    total = Sum()
    for chunk in asked:
        total.add(chunk)
    return {"text": total.text, "tools": total.result()["tools"]}


# --- Responses ---

RESPONSES_TOOLS = [{"type": "function", "name": "f", "description": "the tool", "parameters": PARAMETERS, "strict": False}]


def responses_options(call):
    return {"model": call.model, "input": QUESTION} | ({"tools": RESPONSES_TOOLS} if call.tools else {})


@path
def openai_responses(call):
    asked = call.openai().responses.create(stream=True, **responses_options(call))
    text, arguments, usage = "", "", None
    for event in asked:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.function_call_arguments.delta":
            arguments += event.delta
        elif event.type == "response.completed":
            usage = event.response.usage.total_tokens
    return {"text": text, "tools": [["f", json.loads(arguments)]] if arguments else [], "usage": usage}


@path
def openai_responses_helper(call):
    with call.openai().responses.stream(**responses_options(call)) as stream:
        final = stream.get_final_response()
    tools = [[item.name, json.loads(item.arguments)] for item in final.output if item.type == "function_call"]
    return {"text": final.output_text, "tools": tools, "usage": final.usage.total_tokens, "id": final.id}


@path
def openai_agents_responses(call):
    return agents_ask(call, "OpenAIResponsesModel")


@path
def pydantic_ai_responses(call):
    return pydantic_ai_ask(call, "OpenAIResponsesModel")


# --- The process ---


def error_of(error):
    """An exception as data: what it is, from the most special to the most general, and what it says."""
    kinds = [f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
    status = getattr(error, "status_code", None)
    code = getattr(error, "code", None)
    cause = error.__cause__ and f"{type(error.__cause__).__name__}: {error.__cause__}"[:200]
    told = {"kinds": kinds[:-1], "status": status, "code": code, "message": str(error)[:400], "cause": cause}
    return {"error": {name: value if isinstance(value, (int, list)) else value and str(value) for name, value in told.items()}}


def answer(line, lock):
    order = json.loads(line)
    try:
        result = PATHS[order["path"]](Call(**order["call"]))
    except Exception as error:
        result = error_of(error)
    with lock:
        sys.__stdout__.write(json.dumps({"number": order["number"], "result": result}) + "\n")
        sys.__stdout__.flush()


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    os.environ |= {
        "OPENAI_API_KEY": "x",
        # These ask hosts of their makers otherwise.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "DO_NOT_TRACK": "1",
    }
    # Every client loads all public roots, which takes ten times as long as the call itself, and nothing here speaks TLS.
    ssl.SSLContext.load_verify_locations = lambda *_, **__: None
    # What a library prints would not be an answer.
    sys.stdout = sys.stderr
    lock = threading.Lock()
    with ThreadPoolExecutor(64) as calls:
        for line in sys.stdin:
            calls.submit(answer, line, lock)


if __name__ == "__main__":
    main()
