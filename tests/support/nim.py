"""A look-alike of NIM with a quota that it enforces: the upstream of tests that need the sidecar to be at work."""

import collections
import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Nim:
    """Answers chat completions after `delay` seconds, at most `quota` of them in any 60 s, and the rest with 429.

    The texts `429`, `500` and `slow` in a request's content get what they say.
    """

    def __init__(self, quota=10**6, delay=0.0, port=0):
        self.quota, self.delay = quota, delay
        self.sent = collections.deque()
        self.lock = threading.Lock()
        self.connections = set()
        nim = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer(200, {"object": "list", "data": []})

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if "ask for 429" in content or not nim.grant():
                    return self.answer(429, {"status": 429, "title": "Too Many Requests"})
                if "ask for 500" in content:
                    return self.answer(500, {"error": "scripted"})
                time.sleep(1.5 if "ask for slow" in content else nim.delay)
                return self.answer(200, {"object": "chat.completion", "choices": []})

            def answer(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_):
                """A client that hung up is not news."""

            def get_request(self):
                accepted = super().get_request()
                nim.connections.add(accepted[0])
                return accepted

            def shutdown_request(self, request):
                nim.connections.discard(request)
                super().shutdown_request(request)

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def grant(self):
        with self.lock:
            now = time.monotonic()
            while self.sent and self.sent[0] < now - 60:
                self.sent.popleft()
            if len(self.sent) >= self.quota:
                return False
            self.sent.append(now)
            return True

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        # A connection that a client keeps would be answered by its thread for as long as the client likes.
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
