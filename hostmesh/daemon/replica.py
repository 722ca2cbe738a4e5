"""One replica of a demo service: a small real HTTP server that says who it is and what reached it.

``python -m hostmesh.daemon.replica NAME [DELAY_SECONDS]`` listens on a free loopback port, prints that port as its
first line, and serves until its stdin ends. It watches stdin so that it cannot outlive the demo, however that ends.
"""

from __future__ import annotations

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_LINE = 65536


class ReplicaServer(ThreadingHTTPServer):
    """Listens at once; ``delay`` seconds pass before each answer."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, name: str, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), ReplicaHandler)
        self.name = name
        self.delay = delay
        self.stopping = threading.Event()


class ReplicaHandler(BaseHTTPRequestHandler):
    """Answers every method and path alike."""

    protocol_version = "HTTP/1.1"
    server: ReplicaServer

    def answer(self) -> None:
        body_bytes = self.read_body()
        self.server.stopping.wait(self.server.delay)
        lines = [f"{self.server.name} (pid {os.getpid()}) answers {self.command} {self.path}"]
        if body_bytes:
            lines.append(f"after {body_bytes} bytes of body")
        lines += ["", *(f"  {name}: {value}" for name, value in self.headers.items()), ""]
        body = "\n".join(lines).encode("utf-8", "replace")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read_body(self) -> int:
        """Take the request body off the connection and return its size in bytes."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            total = 0
            while size := int(self.rfile.readline(MAX_LINE).split(b";")[0], 16):
                total += len(self.rfile.read(size))
                self.rfile.readline(MAX_LINE)
            while self.rfile.readline(MAX_LINE).strip():
                pass
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the access line belongs to hostmesh, and two would only confuse."""


# BaseHTTPRequestHandler looks for do_<METHOD>.
for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(ReplicaHandler, f"do_{method}", ReplicaHandler.answer)


def main(name: str, delay: str = "0") -> None:
    server = ReplicaServer(name, float(delay))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    server.stopping.set()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main(*sys.argv[1:])
