"""Both ends of the TCP streams of the bench, as cheap as they can be: bytes are neither made nor looked at.

python -m tests.bench.stream source            serve: prints its port, then sends each caller what it asks for
python -m tests.bench.stream sink PORT N BYTES  N callers at once that read BYTES in all; prints a JSON object
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import threading
import time

BLOCK = 1 << 20
REQUEST = 16
"""Bytes in which a caller says how much it wants."""


def source() -> None:
    """Serve until killed. ``sendfile`` from memory: no copy on this side."""
    file = os.memfd_create("stream")
    os.write(file, os.urandom(BLOCK))
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, file), daemon=True).start()


def serve(sock: socket.socket, file: int) -> None:
    with sock:
        asked = sock.recv(REQUEST, socket.MSG_WAITALL)
        left = int(asked) if asked else 0
        try:
            while left > 0:
                left -= os.sendfile(sock.fileno(), file, 0, min(BLOCK, left))
        except OSError:
            # The caller has gone: a proxy that looks whether we are here.
            return


def sink(port: int, connections: int, size: int) -> dict[str, float]:
    """Read ``size`` bytes over so many connections. MSG_TRUNC: the kernel throws them away, no copy on this side."""
    each = size // connections
    selector = selectors.DefaultSelector()
    buffer = bytearray(BLOCK)
    start = time.perf_counter()
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        sock.sendall(b"%*d" % (REQUEST, each))
        selector.register(sock, selectors.EVENT_READ)
    received = 0
    failed = 0
    got: dict[int, int] = {}
    while selector.get_map():
        for key, _ in selector.select(30):
            sock = key.fileobj  # type: ignore[assignment]
            try:
                count = sock.recv_into(buffer, BLOCK, socket.MSG_TRUNC)
            except OSError:
                count = 0
            received += count
            got[key.fd] = got.get(key.fd, 0) + count
            if not count:
                failed += got.pop(key.fd) != each
                selector.unregister(sock)
                sock.close()
    return {"bytes": received, "seconds": time.perf_counter() - start, "failed": failed}


if __name__ == "__main__":
    if sys.argv[1] == "source":
        source()
    else:
        print(json.dumps(sink(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
