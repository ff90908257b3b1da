# SPDX-License-Identifier: Apache-2.0
"""bench.py WORK PKI OUT [ROW]: measures rows, prints the table, writes OUT. Started by run.sh."""
import json
import os
import sys
import time

import rows
from harness import Broken
from stage import Stage


def cpu_model():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def load():
    return os.getloadavg()[0]


def figure(x):
    return f"{x:.2g}" if abs(x) < 0.01 else f"{x:.3f}" if abs(x) < 10 else f"{x:.1f}"


def line_of(r):
    if not r.values:
        return f"{r.row:<4} {r.name:<66} {'not measured':>12}  ({r.why})"
    goal = f"{'<=' if r.better == 'lower' else '>='} {r.goal:g}"
    spread = f"{figure(min(r.values))}..{figure(max(r.values))}" if len(r.values) > 1 else ""
    if r.why:
        return f"{r.row:<4} {r.name:<66} {'not measured':>12}  ({r.why}; {figure(r.ratio)} was seen, {spread})"
    return f"{r.row:<4} {r.name:<66} {figure(r.ratio):>12}  {spread:<18} {goal:<9} {'met' if r.met() else 'NOT MET'}"


def record(r):
    known = r.values and not r.why
    entry = {"row": r.row, "name": r.name, "ratio": round(r.ratio, 5) if known else None, "low": round(min(r.values), 5) if known else None,
             "high": round(max(r.values), 5) if known else None, "goal": r.goal, "better": r.better, "pairs": len(r.values), "met": r.met(),
             "parts": r.parts | {"load": round(load(), 2)}}
    if r.why:
        entry["not_measured"] = r.why
        if r.values:
            entry["parts"]["seen"] = round(r.ratio, 5)
    return entry


def parts_line(r):
    return "     " + "  ".join(f"{k} {v:g}" if isinstance(v, (int, float)) else f"{k} {v}" for k, v in r.parts.items())


def wanted(row, only):
    """6 asks for 6 and its variants 6a, 6b; 6a for that one."""
    return only in ("", row, row.rstrip("abcdefgh"))


def main():
    work, pki, out = sys.argv[1:4]
    only = sys.argv[4] if len(sys.argv) > 4 else ""
    machine = {"cpu": cpu_model(), "cpus": os.cpu_count(), "kernel": os.uname().release, "load": round(load(), 2),
               "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, load {machine['load']}")
    if load() > 0.5 * os.cpu_count():
        print("The machine is busy with other things: rows whose plain reference is not steady are not measured, absolute times mean little.")
    stage, found = Stage(work, pki), []
    for ids, run_family in rows.FAMILIES:
        if not any(wanted(i, only) or wanted(i, only.rstrip("abcdefgh")) for i in ids):
            continue
        try:
            for r in run_family(stage):
                if wanted(r.row, only):
                    found.append(r)
                    print(line_of(r), flush=True)
                    if r.parts:
                        print(parts_line(r), flush=True)
        except (Broken, OSError) as e:
            r = rows.Row("/".join(ids), run_family.__name__.replace("_", " "), 0, "lower", [], {}, str(e) or type(e).__name__)
            found.append(r)
            print(line_of(r), flush=True)
        finally:
            stage.stop_all()
    machine["load_after"] = round(load(), 2)
    with open(out + ".new", "w") as f:
        json.dump({"machine": machine, "rows": [record(r) for r in found]}, f, indent=1)
        f.write("\n")
    os.replace(out + ".new", out)
    if not found:
        sys.exit(f"no row {only}")
    print(f"load {machine['load']} before, {machine['load_after']} after; {out}")


main()
