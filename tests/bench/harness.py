# SPDX-License-Identifier: Apache-2.0
"""How rows are measured: sides run one after another in pairs, processor time of both ends, medians with their spread."""
import os
import statistics
import subprocess
import tempfile
import threading

PAIRS = int(os.environ.get("PAIRS", "7"))
STEADY = 0.20  # the plain reference may vary by this much between pairs


class Broken(Exception):
    """A side could not be run: its rows are not measured, and say why."""


def tree(pid):
    """A process and its descendants."""
    found = [pid]
    for p in found:
        try:
            for t in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{t}/children") as f:
                    found += [int(c) for c in f.read().split()]
        except OSError:
            pass
    return found


def cpu_ns(pids):
    """Processor time of these processes and their descendants so far; their threads live throughout a run."""
    total = 0
    for root in pids:
        for pid in tree(root):
            try:
                for t in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{t}/schedstat") as f:
                        total += int(f.read().split()[0])
            except OSError:
                pass
    return total


def environment(more=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MESH_") and k != "LD_PRELOAD"}
    env.update(more or {})
    return env


def run(argv, env=None, servers=(), limit=300):
    """Runs a client to its end: its output, its processor time and that of the servers meanwhile, in ns."""
    before = cpu_ns(servers)
    with tempfile.TemporaryFile(mode="w+") as out:
        p = subprocess.Popen(argv, env=environment(env), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        timer = threading.Timer(limit, p.kill)
        timer.start()
        _, status, used = os.wait4(p.pid, 0)
        timer.cancel()
        p.returncode = os.waitstatus_to_exitcode(status)
        after = cpu_ns(servers)
        out.seek(0)
        text = out.read()
    if p.returncode != 0:
        raise Broken(f"{os.path.basename(argv[0])}: exit {p.returncode}: {text.strip()[-200:]}")
    return text, int((used.ru_utime + used.ru_stime) * 1e9), after - before


def numbers(text):
    """The `name value` lines that our own programs print."""
    found = {}
    for line in text.splitlines():
        word = line.split()
        if len(word) == 2:
            try:
                found[word[0]] = float(word[1])
            except ValueError:
                pass
    return found


def spread_of(values):
    return (max(values) - min(values)) / statistics.median(values) if values and statistics.median(values) else 0.0


class Series:
    """What the sides of a comparison gave, a dictionary a side and pair."""

    def __init__(self, sides, reference, steady_by):
        self.pairs, self.void, self.sides = [], [], list(sides)
        self.reference, self.steady_by = reference, steady_by

    def of(self, side, value):
        return [p[side][value] for p in self.pairs]

    def wobble(self):
        """How much the plain reference varies between pairs; 0 when there is none."""
        return spread_of(self.of(self.reference, self.steady_by)) if self.reference else 0.0

    def medians(self):
        found = {}
        for s in self.sides:
            for v in self.pairs[0][s]:
                found[f"{s}.{v}"] = round(statistics.median(self.of(s, v)), 3)
        return found


def measure(sides, reference=None, steady_by=None, pairs=PAIRS):
    """Runs every side once a pair, in alternating order. A pair in which the machine was busy with other things, seen
    by its plain reference alone and never by its result, is void and repeated, at most as often again."""
    s = Series(sides, reference, steady_by)
    for i in range(pairs * 2):
        order = list(sides) if i % 2 == 0 else list(sides)[::-1]
        s.pairs.append({name: sides[name]() for name in order})
        s.pairs = settle(s)
        if len(s.pairs) == pairs:
            break
    if len(s.pairs) < pairs:  # too restless: all that was seen is judged, and found wanting
        s.pairs += s.void
        s.void = []
    return s


def settle(s):
    """Keeps the pairs whose plain reference is near the best half's median; what is left out is void."""
    every = s.pairs + s.void
    if not s.reference or len(every) < 3:
        return every
    middle = statistics.median(p[s.reference][s.steady_by] for p in every)
    near = [p for p in every if abs(p[s.reference][s.steady_by] / middle - 1) <= STEADY / 2]
    s.void = [p for p in every if p not in near]
    return near
