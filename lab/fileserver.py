"""Serve a folder over HTTP in a process of its own: ``python -m lab.fileserver ROOT ADDRESS PORT``.

The address may belong to an interface that comes up later (a lab's bridge), hence IP_FREEBIND.
"""

import functools
import http.server
import socket
import socketserver
import sys

IP_FREEBIND = 15
"""Linux's socket option; Python has no name for it."""


class FileServer(http.server.ThreadingHTTPServer):
    """One thread per request, so that twenty hosts can download at once."""

    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        # HTTPServer.server_bind would ask the name service for a name of the address.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


def main() -> None:
    root, address, port = sys.argv[1:]
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
    with FileServer((address, int(port)), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
