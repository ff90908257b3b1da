# SPDX-License-Identifier: Apache-2.0
"""The two pictures of the README, as SVG: nothing but text, drawn from what a row measured."""
import os

PLOTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "plots")
COLOURS = ("#4269d0", "#efb118", "#3ca951", "#ff725c")
HEAD = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="sans-serif" font-size="12" fill="#333">'
        '<rect width="{w}" height="{h}" fill="#fff"/>\n<text x="12" y="20" font-size="14">{title}</text>\n')


def text(x, y, words, **more):
    return f'<text x="{x:.0f}" y="{y:.0f}"' + "".join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items()) + f">{words}</text>\n"


def write(name, body):
    os.makedirs(PLOTS, exist_ok=True)
    with open(os.path.join(PLOTS, name + ".new"), "w") as f:
        f.write("<!-- SPDX-License-Identifier: Apache-2.0; drawn by make bench -->\n" + body + "</svg>\n")
    os.replace(os.path.join(PLOTS, name + ".new"), os.path.join(PLOTS, name))


def tails(p99, limit=160):
    """Bars of {policy: (equal, mixed)}, cut at `limit`."""
    w, left, row = 720, 200, 40
    h, scale = 60 + row * len(p99) + 20, (w - left - 90) / limit
    out = HEAD.format(w=w, h=h, title="p99 response time at 85 % load, in mean service times (simulated: 100 servers, 10 hosts of 10 processes)")
    for i, (name, pair) in enumerate(p99.items()):
        y = 48 + i * row
        out += text(left - 8, y + 18, name, text_anchor="end")
        for k, value in enumerate(pair):
            out += f'<rect x="{left}" y="{y + k * 15}" width="{min(value, limit) * scale:.1f}" height="13" fill="{COLOURS[k]}"/>\n'
            out += text(left + min(value, limit) * scale + 5, y + k * 15 + 11, f"{value:.0f}" + (" (cut)" if value > limit else ""))
    for k, words in enumerate(("equal servers", "half of them at half speed")):
        out += f'<rect x="{left + k * 150}" y="{h - 22}" width="11" height="11" fill="{COLOURS[k]}"/>\n' + text(left + k * 150 + 16, h - 12, words)
    write("tail.svg", out)


def distribution(curves, top=2.0):
    """Lines of {policy: [each endpoint's share over the mean one, from the least to the largest]}."""
    w, h, left, base = 720, 300, 50, 260
    across, up = w - left - 20, (base - 40) / top
    out = HEAD.format(w=w, h=h, title="1,000 endpoints by what they get of 1,000,000 keys, least to most (1 = mean)")
    for tick in (0, 0.5, 1, 1.5, 2):
        out += f'<path d="M{left} {base - tick * up:.1f}H{w - 20}" stroke="#ddd"/>\n' + text(left - 8, base - tick * up + 4, f"{tick:g}", text_anchor="end")
    for i, (name, shares) in enumerate(curves.items()):
        points = " ".join(f"{left + across * k / (len(shares) - 1):.1f},{base - min(s, top) * up:.1f}" for k, s in enumerate(shares))
        out += f'<polyline points="{points}" fill="none" stroke="{COLOURS[i]}" stroke-width="2"/>\n'
        out += f'<rect x="{left + i * 220}" y="{h - 22}" width="11" height="11" fill="{COLOURS[i]}"/>\n' + text(left + i * 220 + 16, h - 12, name)
    write("distribution.svg", out)
