# SPDX-License-Identifier: Apache-2.0
# memcache.py HOST PORT TEXT: sets and gets over several connections at once.
import socket
import sys

host, port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
value = text * 2000
socks = [socket.create_connection((host, port), 10) for _ in range(8)]
files = [s.makefile("rwb") for s in socks]
for i, f in enumerate(files):
    f.write(b"set k%d 0 0 %d\r\n%s\r\n" % (i, len(value), value))
    f.flush()
for f in files:
    assert f.readline() == b"STORED\r\n"
for i, f in enumerate(files):
    f.write(b"get k%d\r\n" % ((i + 1) % len(files)))
    f.flush()
for f in files:
    assert f.readline().startswith(b"VALUE ")
    assert f.read(len(value) + 2) == value + b"\r\n"
    assert f.readline() == b"END\r\n"
