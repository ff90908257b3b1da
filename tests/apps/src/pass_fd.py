# SPDX-License-Identifier: Apache-2.0
# pass_fd.py HOST PORT TEXT: live connections go to another process over a unix socket, which goes on with them.
import os
import socket
import sys

host, port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
listener = socket.create_server(("127.0.0.1", port))
worker = os.fork()
if worker == 0:
    here.close()
    listener.close()
    for _ in range(4):
        _, fds, _, _ = socket.recv_fds(there, 16, 1)
        with socket.socket(fileno=fds[0]) as c:
            while data := c.recv(65536):
                c.sendall(data.upper())
    os._exit(0)
client = os.fork()
if client == 0:
    listener.close()
    for i in range(4):
        c = socket.create_connection((host, port), 20)
        got = b""
        for part in range(10):
            c.sendall(text)
            while len(got) < len(text) * (part + 1):
                got += c.recv(65536)
        assert got == text.upper() * 10, got
        c.close()
    os._exit(0)
there.close()
for i in range(4):
    c, _ = listener.accept()
    if i % 2:  # one whose handshake is done and whose first bytes are read goes on as well as one that is untouched
        data = c.recv(65536)
        c.sendall(data.upper())
    socket.send_fds(here, [b"take it"], [c.fileno()])
    c.close()
for pid in (worker, client):
    assert os.waitpid(pid, 0)[1] == 0
