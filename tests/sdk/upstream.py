"""An upstream that does as it is told: the answer to a request is chosen by its model's name, and all that arrives is kept."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """With room for a burst of connections: the default backlog of 5 drops some of them."""

    daemon_threads = True
    request_queue_size = 128


@dataclass
class Received:
    """One request as it arrived."""

    path: str
    headers: dict
    body: dict


@dataclass
class Upstream:
    """Serves on a free port of loopback; `on[model]` is a function of (exchange, request number from 1)."""

    on: dict = field(default_factory=dict)
    received: list = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self):
        self.server = Server(("127.0.0.1", 0), handler_of(self))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), name="upstream")
        self.thread.start()
        return self

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def models_received(self):
        with self.lock:
            return [request.body.get("model") for request in self.received]


def chunk(model, **delta):
    """One event of a streamed chat completion."""
    done = "finish_reason" in delta
    choice = {"index": 0, "delta": {} if done else delta, "finish_reason": delta.get("finish_reason")}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return f"data: {json.dumps(event)}\n\n".encode()


def handler_of(upstream):
    class Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.keep({})
            models = [{"id": "nvidia/a", "object": "model", "created": 1, "owned_by": "nvidia"}]
            self.answer(200, {"object": "list", "data": models})

        def do_POST(self):
            self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.keep(self.body)
            model = self.body["model"]
            number = upstream.models_received().count(model)
            act = upstream.on.get(model)
            if act:
                act(self, number)
            elif self.path.endswith("/embeddings"):
                self.embed()
            elif self.body.get("stream"):
                self.stream()
            else:
                self.chat()

        def keep(self, body):
            headers = {name.lower(): value for name, value in self.headers.items()}
            with upstream.lock:
                upstream.received.append(Received(self.path, headers, body))

        def answer(self, status, body, **headers):
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(text)

        def said(self):
            return self.body["messages"][-1]["content"]

        def chat(self, **headers):
            """Repeats what was said."""
            choice = {"index": 0, "message": {"role": "assistant", "content": self.said()}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": self.body["model"]}
            self.answer(200, answer | {"choices": [choice], "usage": usage}, **headers)

        def embed(self):
            count = 1 if isinstance(self.body["input"], str) else len(self.body["input"])
            data = [{"object": "embedding", "index": i, "embedding": [0.25, 0.5 + i]} for i in range(count)]
            usage = {"prompt_tokens": count, "total_tokens": count}
            self.answer(200, {"object": "list", "data": data, "model": self.body["model"], "usage": usage})

        def refuse(self):
            """NVIDIA's refusal: no word about when to come back."""
            self.answer(429, {"status": 429, "title": "Too Many Requests"})

        def begin_stream(self):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()

        def piece(self, data):
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def say(self, word):
            self.piece(chunk(self.body["model"], content=word))

        def end_stream(self):
            self.piece(chunk(self.body["model"], finish_reason="stop"))
            self.piece(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def stream(self):
            """Repeats what was said, word by word."""
            self.begin_stream()
            for word in self.said().split(" "):
                self.say(word + " ")
            self.end_stream()

        def hang_until_gone(self):
            """Says nothing until the other side hangs up."""
            self.connection.settimeout(10)
            if self.rfile.read(1) == b"":
                upstream.gone.set()
            self.close_connection = True

        def break_off(self):
            """Closes the connection without an end of the answer."""
            self.close_connection = True

        def log_message(self, *_):
            pass

    return Exchange
