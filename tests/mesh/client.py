# SPDX-License-Identifier: Apache-2.0
"""Reads JSON strings of Python, one a line, and answers ["ok", value], or ["ok", "ECONNREFUSED"] where an OSError ended it."""
import asyncio, errno, json, os, select, socket, struct, sys, threading, time, traceback  # noqa: words for what is sent

PATIENT = 30
AI = {getattr(socket, n): n for n in dir(socket) if n.startswith("EAI_")}


def line(s):
    got = b""
    while not got.endswith(b"\n"):
        d = s.recv(4096)
        if not d:
            break
        got += d
    return got.decode().strip() or "EOF"


def conn(name="reviews.shop.mesh", port=9080, family=0):
    """A connected socket, by the name's first address."""
    last = OSError(errno.EINVAL, "")
    for f, t, p, _, sa in socket.getaddrinfo(name, port, family, socket.SOCK_STREAM):
        s = socket.socket(f, t, p)
        s.settimeout(None)
        try:
            s.connect(sa)
            return s
        except OSError as e:
            s.close()
            last = e
            break
    raise last


def say(s, text="hi"):
    s.sendall(text.encode() + b"\n")
    return line(s)


def ask(name="reviews.shop.mesh", port=9080, text="hi"):
    with conn(name, port) as s:
        return say(s, text).replace(":" + text, "")


def sock(name="reviews.shop.mesh", port=9080):
    """An unconnected socket, and the address to connect it to."""
    f, t, p, _, sa = socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)[0]
    return socket.socket(f, t, p), sa


def begin(s, sa):
    """A non-blocking connect's own answer."""
    s.setblocking(False)
    e = s.connect_ex(sa)
    assert e in (0, errno.EINPROGRESS), errno.errorcode.get(e, e)
    return e


def so_error(s):
    e = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[e] if e else 0


words = globals()


def answer(code):
    try:
        words["ret"] = None
        try:
            value = eval(compile(code, "sent", "eval"), words)
        except SyntaxError:
            exec(compile(code, "sent", "exec"), words)
            value = words["ret"]
        return ["ok", value if isinstance(value, (str, int, float, list, tuple, dict, type(None))) else str(value)]
    except socket.gaierror as e:
        return ["ok", AI.get(e.errno, str(e.errno))]
    except OSError as e:
        return ["ok", errno.errorcode.get(e.errno, str(e))]
    except BaseException:
        return ["bug", traceback.format_exc()]


while True:
    sent = sys.stdin.readline()
    if not sent:
        break
    print(json.dumps(answer(json.loads(sent))), flush=True)
