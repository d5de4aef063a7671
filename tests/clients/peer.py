"""A server on loopback that plays scripts: each script has a base URL of its own, and everything that was asked there is kept."""

import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# How an answer may end.
WHOLE = "whole"  # with the last chunk
CUT = "cut"  # a FIN without the last chunk
RESET = "reset"  # a RST


@dataclass
class Play:
    """One answer: `pieces` are bytes or text to send as one chunk, or seconds to be silent before the next."""

    pieces: list = field(default_factory=list)
    status: int = 200
    headers: dict = field(default_factory=lambda: {"content-type": "text/event-stream; charset=utf-8"})
    end: str = WHOLE
    # Seconds until the head.
    think: float = 0

    @classmethod
    def json(cls, status, body, think=0, before=(), end=WHOLE, **headers):
        headers = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return cls([*before, json.dumps(body)], status, headers, end, think)


@dataclass
class Script:
    """What is answered to the first, second … request; the last is repeated."""

    plays: list
    base: str = ""
    # (path, headers, body) of each request.
    requests: list = field(default_factory=list)


class Peer:
    def __init__(self):
        self.scripts = []
        self.lock = threading.Lock()
        # Lets those that are silent for good end with the test.
        self.over = threading.Event()

    def __enter__(self):
        self.server = Server(("127.0.0.1", 0), handler_of(self))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), name="peer")
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def plays(self, *plays):
        """A script of its own; its `base` is what a client is pointed at, without the `/v1`."""
        with self.lock:
            script = Script(list(plays), f"http://127.0.0.1:{self.server.server_port}/{len(self.scripts)}")
            self.scripts.append(script)
        return script

    def asked(self, path, headers, body):
        number, _, rest = path.removeprefix("/").partition("/")
        script = self.scripts[int(number)]
        with self.lock:
            script.requests.append((f"/{rest}", headers, body))
            return script.plays[min(len(script.requests), len(script.plays)) - 1]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def handler_of(peer):
    class Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                self.play(peer.asked(self.path, {n.lower(): v for n, v in self.headers.items()}, body))
            except OSError:
                # The client has had enough.
                self.close_connection = True

        def play(self, play):
            if play.think and peer.over.wait(play.think):
                self.close_connection = True
                return
            if play.status:
                self.send_response(play.status)
                for name, value in play.headers.items():
                    self.send_header(name, value)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
            for piece in play.pieces:
                if isinstance(piece, (int, float)):
                    if peer.over.wait(piece):
                        break
                else:
                    piece = piece.encode() if isinstance(piece, str) else piece
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if play.end == WHOLE:
                self.wfile.write(b"0\r\n\r\n")
            elif play.end == RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            if play.end != WHOLE:
                self.close_connection = True

        def log_message(self, *_):
            pass

    return Exchange
