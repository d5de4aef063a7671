"""The processes in which the client paths run, and what is known of each path."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
# Seconds after which a call counts as one that never returns. A library may be imported before.
HANGS = 240


@dataclass(frozen=True)
class ClientPath:
    """One way of asking: `raises` are the exceptions that an error within a stream may become."""

    name: str
    endpoint: str
    # Paths of one library share a process.
    process: str
    raises: tuple
    # Whether it is asked for answers without and with tool calls.
    text: bool = True
    tools: bool = True
    # Whether it can be asked without `stream`.
    whole: bool = False
    # Whether it reads `choices[0]` of each chunk without a look.
    first_choice: bool = False
    # Whether the sidecar sends it comments only.
    comments: bool = False
    # Whether it forgets the usage when another chunk follows: between the two there is no silence worth a sign of life.
    last_usage: bool = False

    def __str__(self):
        return self.name


# What the libraries make of an error within a stream.
OPENAI = ("openai.APIError",)
PYDANTIC_AI = ("pydantic_ai.ModelAPIError",)
INSTRUCTOR = ("instructor.InstructorRetryException",)
HUGGINGFACE = ("huggingface_hub.TextGenerationError",)
ANTHROPIC = ("anthropic.APIStatusError",)
NODE = ("APIError",)
# The first before the answer's first part, the second after it.
VERCEL = ("AI_APICallError", "AI_StreamProviderError")

# What an answer that is not a stream becomes when it breaks off, where it is none of the above.
BROKEN = {NODE: ("TypeError",), HUGGINGFACE: ("httpx2.TransportError",), ANTHROPIC: ("anthropic.APIConnectionError",)}

PATHS = [
    ClientPath("openai_chat", "chat", "openai", OPENAI, whole=True),
    ClientPath("openai_chat_async", "chat", "openai", OPENAI, whole=True),
    ClientPath("openai_chat_helper", "chat", "openai", OPENAI, last_usage=True),
    ClientPath("openai_chat_first_choice", "chat", "openai", OPENAI, tools=False, first_choice=True),
    ClientPath("langchain_chat", "chat", "langchain", OPENAI, whole=True),
    ClientPath("langchain_chat_async", "chat", "langchain", OPENAI, whole=True),
    ClientPath("litellm_chat", "chat", "litellm", OPENAI, whole=True),
    ClientPath("litellm_chat_async", "chat", "litellm", OPENAI, whole=True),
    ClientPath("pydantic_ai_chat", "chat", "pydantic_ai", PYDANTIC_AI, whole=True),
    ClientPath("openai_agents_chat", "chat", "openai_agents", OPENAI, whole=True),
    ClientPath("instructor_chat", "chat", "instructor", INSTRUCTOR, text=False),
    ClientPath("haystack_chat", "chat", "haystack", OPENAI, whole=True),
    ClientPath("huggingface_chat", "chat", "huggingface", HUGGINGFACE, whole=True),
    ClientPath("node_chat", "chat", "node", NODE, whole=True),
    ClientPath("node_chat_helper", "chat", "node", NODE),
    ClientPath("node_chat_first_choice", "chat", "node", NODE, tools=False, first_choice=True),
    ClientPath("vercel_openai_chat", "chat", "node", VERCEL, whole=True),
    ClientPath("vercel_compatible_chat", "chat", "node", VERCEL, whole=True),
    # It takes a first chunk without a role for one that is not the assistant's, and loses the tool calls after it.
    ClientPath("langchainjs_chat", "chat", "node", NODE, whole=True, comments=True),
    ClientPath("openai_completions", "completions", "openai", OPENAI, tools=False),
    ClientPath("langchain_completions", "completions", "langchain", OPENAI, tools=False),
    ClientPath("litellm_completions", "completions", "litellm", OPENAI, tools=False),
    ClientPath("node_completions", "completions", "node", NODE, tools=False),
    ClientPath("vercel_completions", "completions", "node", VERCEL, tools=False),
    ClientPath("anthropic_messages", "messages", "anthropic", ANTHROPIC, tools=False, whole=True),
    ClientPath("anthropic_messages_helper", "messages", "anthropic", ANTHROPIC),
    ClientPath("litellm_messages", "messages", "litellm", OPENAI),
    ClientPath("node_anthropic_messages", "messages", "node", NODE, tools=False, whole=True),
    ClientPath("node_anthropic_messages_helper", "messages", "node", NODE),
    ClientPath("vercel_anthropic_messages", "messages", "node", VERCEL, whole=True),
    ClientPath("openai_responses", "responses", "openai", OPENAI),
    ClientPath("openai_responses_helper", "responses", "openai", OPENAI),
    ClientPath("openai_agents_responses", "responses", "openai_agents", OPENAI),
    ClientPath("pydantic_ai_responses", "responses", "pydantic_ai", PYDANTIC_AI),
    ClientPath("node_responses", "responses", "node", NODE),
    ClientPath("node_responses_helper", "responses", "node", NODE),
    ClientPath("vercel_responses", "responses", "node", VERCEL),
]


class Worker:
    """A process that answers calls, several at a time, in the order in which they are done."""

    def __init__(self, name):
        # The environment may name hosts and keys that no test may use, and what a library sends home ends at the discard port.
        environment = {n: v for n, v in os.environ.items() if not n.endswith(("_API_KEY", "_BASE_URL", "_PROXY", "_proxy"))}
        environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
        self.process = subprocess.Popen(
            command_of(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE
        )
        self.lock = threading.Lock()
        self.waiting = {}
        self.count = 0
        self.reader = threading.Thread(target=self.read, name=f"answers of {name}")
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            with self.lock:
                waiting = self.waiting.pop(answer["number"])
            waiting.set_result(answer["result"])
        with self.lock:
            for waiting in self.waiting.values():
                waiting.set_exception(RuntimeError(f"the client's process ended with status {self.process.wait()}"))

    def call(self, path, **call):
        """A future of the result: what the path understood, or `{"error": …}`."""
        result = Future()
        with self.lock:
            self.count += 1
            self.waiting[self.count] = result
            self.process.stdin.write(json.dumps({"number": self.count, "path": path, "call": call}) + "\n")
            self.process.stdin.flush()
        return result

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reader.join()


def command_of(process):
    if process == "node":
        return [os.environ["CLIENTS_NODE"], "node_paths.mjs"]
    python = os.environ["CLIENTS_INSTRUCTOR_PYTHON"] if process == "instructor" else sys.executable
    return [python, "python_paths.py"]


class Clients:
    """All paths; a process is started when it is first needed."""

    def __init__(self):
        self.workers = {}
        self.lock = threading.Lock()

    def ask(self, path, **call):
        """What the path makes of the answer to one call."""
        with self.lock:
            if path.process not in self.workers:
                self.workers[path.process] = Worker(path.process)
            worker = self.workers[path.process]
        try:
            return worker.call(path.name, **call).result(HANGS)
        except (TimeoutError, RuntimeError) as error:
            return {"error": {"kinds": [type(error).__name__], "message": str(error) or f"no result within {HANGS} s"}}

    def run(self, jobs):
        """Runs (path, function) pairs: those of one process one after the other, the processes side by side."""
        by_process = {}
        for path, function in jobs:
            by_process.setdefault(path.process, []).append(function)

        def in_turn(functions):
            for function in functions:
                function()

        with ThreadPoolExecutor(len(by_process) or 1) as processes:
            for done in [processes.submit(in_turn, functions) for functions in by_process.values()]:
                done.result()

    def stop(self):
        for worker in self.workers.values():
            worker.stop()
