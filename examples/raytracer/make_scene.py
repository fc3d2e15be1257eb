#!/usr/bin/env python3
"""Writes still_life.obj and still_life.mtl, the scene of the ray tracer's demo.

    python3 make_scene.py [FOLDER]        (default: the folder of this file)

Units: one unit is about five centimetres; y is up, the table top is y = 0, the camera looks along -z.
Everything is a plain OBJ that any modeller reads. What OBJ has no word for stands in comments that our loader
(scene.cpp) reads and others skip:

    # camera from X Y Z at X Y Z fov DEGREES       the vertical field of view
    # background R G B                             light that comes from everywhere the scene is open

and in one MTL keyword of our own, `pattern wood|checker`, which paints a material procedurally. For glass, `Ni` is
the refractive index of the inside relative to the outside and `Tf` the colour that is left after one unit of way
through it. The wine touches the glass: their common wall is one surface with Ni = 1.333 / 1.5, seen from the wine.
"""

import math
import pathlib
import sys


# ---- vectors and curves ------------------------------------------------------------------------------------

def sub(a, b):
    return tuple(x - y for x, y in zip(a, b))


def unit(a):
    length = math.sqrt(sum(x * x for x in a)) or 1.0
    return tuple(x / length for x in a)


def spline(points, steps):
    """A Catmull-Rom curve through `points` (radius, height), `steps` segments between each two."""
    padded = [points[0], *points, points[-1]]
    curve = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:]):
        for k in range(steps):
            t = k / steps
            curve.append(tuple(
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(p0, p1, p2, p3)))
    curve.append(points[-1])
    return [(max(radius, 0.0), height) for radius, height in curve]


def arc(centre, radius, start_degrees, end_degrees, steps):
    """Points on a circle in the (radius, height) plane."""
    angles = [math.radians(start_degrees + (end_degrees - start_degrees) * k / steps) for k in range(steps + 1)]
    return [(max(centre[0] + radius * math.cos(a), 0.0), centre[1] + radius * math.sin(a)) for a in angles]


def cut(curve, height):
    """Splits a curve whose height falls into the parts above and below `height`; both hold the point between."""
    for i, ((r0, y0), (r1, y1)) in enumerate(zip(curve, curve[1:])):
        if y0 >= height > y1:
            between = (r0 + (r1 - r0) * (y0 - height) / (y0 - y1), height)
            return curve[:i + 1] + [between], [between] + curve[i + 1:]
    raise ValueError("the curve does not cross the height")


# ---- the file ----------------------------------------------------------------------------------------------

class Obj:
    """Collects the text of an OBJ file. Faces are lists of 0-based indices into the vertices given with them."""

    def __init__(self):
        self.lines = []
        self.vertices = 0
        self.normals = 0

    def comment(self, text):
        self.lines.append(f"# {text}")

    def mesh(self, name, parts, vertices, normals=None):
        """`parts` maps a material to its faces; normals, if given, go one with each vertex."""
        self.lines.append(f"o {name}")
        self.lines += ["v " + " ".join(f"{c:.4f}".rstrip("0").rstrip(".") for c in v) for v in vertices]
        if normals:
            self.lines += ["vn " + " ".join(f"{c:.3f}".rstrip("0").rstrip(".") for c in n) for n in normals]
        for material, faces in parts.items():
            self.lines.append(f"usemtl {material}")
            for face in faces:
                if normals:
                    corners = [f"{i + 1 + self.vertices}//{i + 1 + self.normals}" for i in face]
                else:
                    corners = [str(i + 1 + self.vertices) for i in face]
                self.lines.append("f " + " ".join(corners))
        self.vertices += len(vertices)
        self.normals += len(normals or [])

    def quad(self, name, material, corners):
        self.mesh(name, {material: [(0, 1, 2, 3)]}, corners)


def revolve(profile, segments, centre, tilt=None):
    """Turns a profile (radius, height) about the vertical axis through `centre`: vertices, normals, faces.

    The outside lies to the right of the way along the profile. A point that occurs twice in a row is an edge.
    """
    runs, start = [], 0
    for i in range(1, len(profile) + 1):
        if i == len(profile) or math.dist(profile[i], profile[i - 1]) < 1e-9:
            runs.append(profile[start:i])
            start = i
    vertices, normals, faces = [], [], []
    place = tilt or (lambda p: p)
    for run in runs:
        base = len(vertices)
        for i, (radius, height) in enumerate(run):
            before, after = run[max(i - 1, 0)], run[min(i + 1, len(run) - 1)]
            slope = unit((after[1] - before[1], before[0] - after[0]))
            if radius < 1e-6:  # on the axis the surface is level
                slope = (0.0, math.copysign(1.0, slope[1]))
            for j in range(segments):
                c, s = math.cos(2 * math.pi * j / segments), math.sin(2 * math.pi * j / segments)
                turned = place((radius * c, height, radius * s))
                vertices.append(tuple(a + b for a, b in zip(turned, centre)))
                normals.append(place((slope[0] * c, slope[1], slope[0] * s)))
        for i in range(len(run) - 1):
            for j in range(segments):
                k = (j + 1) % segments
                a, b = base + i * segments + j, base + (i + 1) * segments + j
                c, d = base + (i + 1) * segments + k, base + i * segments + k
                if run[i][0] < 1e-6:
                    faces.append((a, b, c))
                elif run[i + 1][0] < 1e-6:
                    faces.append((a, b, d))
                else:
                    faces.append((a, b, c, d))
    return vertices, normals, faces


def turned(obj, name, material, profile, segments, centre, tilt=None):
    vertices, normals, faces = revolve(profile, segments, centre, tilt)
    obj.mesh(name, {material: faces}, vertices, normals)


def ball(obj, name, material, radius, centre, segments=64, squash=1.0):
    profile = [(r, y * squash) for r, y in arc((0, 0), radius, -90, 90, segments // 2)]
    turned(obj, name, material, profile, segments, centre)


# ---- the things on the table -------------------------------------------------------------------------------

def wine_glass(obj, x, z):
    """Foot, stem and bowl in one wall of glass, and wine up to 2.95 in it."""
    outer = (spline([(0, 0), (0.55, 0), (0.88, 0.008), (0.94, 0.035), (0.88, 0.07), (0.45, 0.14), (0.13, 0.34),
                     (0.085, 0.75), (0.085, 1.25), (0.12, 1.62), (0.42, 1.86), (0.84, 2.28), (1.03, 2.8),
                     (1.0, 3.4), (0.82, 4.16)], 5))
    rim = arc((0.797, 4.165), 0.023, 0, 180, 6)
    inner = spline([(0.774, 4.16), (0.95, 3.4), (0.98, 2.8), (0.79, 2.31), (0.4, 1.95), (0.12, 1.8), (0, 1.785)], 6)
    dry, wet = cut(inner, 2.85)
    turned(obj, "wine_glass", "glass", outer[:-1] + rim + dry[1:], 64, (x, 0, z))
    turned(obj, "wine_wall", "wine_in_glass", wet[::-1], 64, (x, 0, z))
    turned(obj, "wine_top", "wine", [wet[0], (wet[0][0] * 0.5, 2.85), (0, 2.85)], 64, (x, 0, z))


def tumbler(obj, x, z):
    """A whisky glass with a heavy base and a sip of whisky in it."""
    outer = arc((0.62, 0.1), 0.1, -90, -8, 6) + spline([(0.73, 0.2), (0.79, 0.9), (0.84, 1.75)], 6)
    rim = arc((0.805, 1.76), 0.035, 0, 180, 8)
    inner = spline([(0.77, 1.75), (0.725, 0.9), (0.68, 0.55), (0.55, 0.42), (0.25, 0.36), (0, 0.35)], 7)
    dry, wet = cut(inner, 0.92)
    turned(obj, "tumbler", "glass", [(0, 0), (0.3, 0)] + outer + rim + dry[1:], 64, (x, 0, z))
    turned(obj, "whisky_wall", "whisky_in_glass", wet[::-1], 64, (x, 0, z))
    turned(obj, "whisky_top", "whisky", [wet[0], (0.4, 0.92), (0, 0.92)], 64, (x, 0, z))


def bowl(obj, x, z):
    outer = [(0, 0.0), (0.7, 0.0), (0.7, 0.0)] + spline([(0.7, 0), (0.74, 0.06), (0.66, 0.14), (0.72, 0.22),
                                                       (1.15, 0.42), (1.5, 0.78), (1.66, 1.2)], 6)
    rim = arc((1.63, 1.22), 0.035, -20, 180, 8)
    inner = spline([(1.595, 1.2), (1.44, 0.8), (1.1, 0.47), (0.6, 0.28), (0, 0.24)], 6)
    turned(obj, "bowl", "gold", outer + rim + inner, 72, (x, 0, z))


def vase(obj, x, z):
    outer = [(0, 0.0), (0.5, 0.0), (0.5, 0.0)] + spline([(0.5, 0), (0.54, 0.07), (0.52, 0.16), (0.78, 0.7),
                                                       (0.93, 1.35), (0.78, 2.1), (0.4, 2.72), (0.3, 3.15),
                                                       (0.36, 3.5), (0.52, 3.72)], 6)
    rim = arc((0.5, 3.75), 0.03, -20, 180, 6)
    inner = spline([(0.465, 3.7), (0.31, 3.5), (0.25, 3.15), (0.3, 2.7), (0.3, 2.2)], 5) + [(0, 2.2)]
    turned(obj, "vase", "copper", outer + rim + inner, 64, (x, 0, z))


def leaning(angle_degrees, towards_degrees):
    """A rotation that leans the vertical axis over by an angle towards a compass direction."""
    a, b = math.radians(angle_degrees), math.radians(towards_degrees)

    def place(p):
        c, s = math.cos(b), math.sin(b)
        u, w = c * p[0] + s * p[2], -s * p[0] + c * p[2]
        u, y = math.cos(a) * u + math.sin(a) * p[1], -math.sin(a) * u + math.cos(a) * p[1]
        return (c * u - s * w, y, s * u + c * w)
    return place


def apple(obj, name, material, centre, lean):
    body = spline([(0, -0.42), (0.1, -0.47), (0.24, -0.5), (0.44, -0.36), (0.58, -0.05), (0.6, 0.2), (0.48, 0.45),
                   (0.28, 0.5), (0.1, 0.4), (0, 0.33)], 5)
    turned(obj, name, material, body, 48, centre, lean)
    stem = [(0, 0.3), (0.025, 0.3), (0.02, 0.5), (0.035, 0.68), (0, 0.69)]
    turned(obj, name + "_stem", "stem", stem, 10, centre, lean)


def lemon(obj, name, material, centre, lean):
    body = spline([(0, -0.72), (0.07, -0.71), (0.13, -0.62), (0.33, -0.42), (0.46, 0), (0.33, 0.42), (0.12, 0.6),
                   (0.08, 0.7), (0, 0.72)], 5)
    turned(obj, name, material, body, 48, centre, lean)


# Pips in thirds of a face, by the number they show.
PIPS = {1: [(0, 0)], 2: [(-1, -1), (1, 1)], 3: [(-1, -1), (0, 0), (1, 1)],
        4: [(-1, -1), (-1, 1), (1, -1), (1, 1)], 5: [(-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)],
        6: [(-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)]}
# A face's outward direction and its number; opposite faces sum to seven.
FACES = [((0, 1, 0), 5), ((0, -1, 0), 2), ((1, 0, 0), 3), ((-1, 0, 0), 4), ((0, 0, 1), 1), ((0, 0, -1), 6)]


def cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def die(obj, name, materials, x, z, turn_degrees, edge=0.8, top=5, y=0.0):
    """A cube with rounded edges and round hollows as pips. `materials`: of the body and of the pips."""
    half, rounding, ring = edge / 2, edge * 0.12, 16
    flat = half - rounding
    cell, pip, depth = flat * 2 / 3, edge * 0.092, edge * 0.045
    vertices, normals, body, pips = [], [], [], []

    def add(point, normal):
        vertices.append(point)
        normals.append(normal)
        return len(vertices) - 1

    def grid(rows, target):
        for upper, lower in zip(rows, rows[1:]):
            for i in range(len(upper) - 1):
                target.append((upper[i], upper[i + 1], lower[i + 1], lower[i]))

    for n, number in FACES:
        u = (n[1], n[2], n[0])
        w = cross(n, u)

        def on(a, b, up, n=n, u=u, w=w):
            return tuple(a * u[k] + b * w[k] + up * n[k] for k in range(3))

        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                cu, cw = row * cell, column * cell
                angles = [2 * math.pi * k / ring for k in range(ring)] + [0.0]
                square = []
                for a in angles:
                    reach = cell / 2 / max(abs(math.cos(a)), abs(math.sin(a)))
                    square.append(add(on(cu + reach * math.cos(a), cw + reach * math.sin(a), half), n))
                if (row, column) not in PIPS[number]:
                    body.append(tuple(square[k] for k in (2, 6, 10, 14)))
                    continue
                circle = [add(on(cu + pip * math.cos(a), cw + pip * math.sin(a), half), n) for a in angles]
                grid([circle, square], body)
                rows, steep = [], math.atan2(2 * pip * depth, pip * pip - depth * depth)
                sphere = pip / math.sin(steep)
                for k in range(3):
                    t = steep * (1 - k / 3)
                    rows.append([add(on(cu + sphere * math.sin(t) * math.cos(a), cw + sphere * math.sin(t) * math.sin(a),
                                        half - sphere * (math.cos(t) - math.cos(steep))),
                                     on(-math.sin(t) * math.cos(a), -math.sin(t) * math.sin(a), math.cos(t)))
                                 for a in angles])
                grid(rows[::-1], pips)
                bottom = add(on(cu, cw, half - sphere * (1 - math.cos(steep))), n)
                pips += [(bottom, rows[-1][i], rows[-1][i + 1]) for i in range(ring)]
        # the quarter cylinders along two of the face's edges: each of the twelve edges is met once
        for along, side in ((w, u), (u, w)):
            for sign in (1, -1):
                other = tuple(sign * c for c in side)
                if [tuple(n), other] != sorted([tuple(n), other]):
                    continue
                rows = []
                for k in range(6):
                    a = math.pi / 2 * k / 5
                    normal = tuple(math.cos(a) * n[i] + math.sin(a) * other[i] for i in range(3))
                    rows.append([add(tuple(flat * (n[i] + other[i]) + t * flat * along[i] + rounding * normal[i]
                                           for i in range(3)), normal) for t in (-1, 1)])
                grid(rows if sum(cross(along, n)[i] * other[i] for i in range(3)) < 0 else [r[::-1] for r in rows], body)
    for sx in (1, -1):
        for sy in (1, -1):
            for sz in (1, -1):
                rows = []
                for i in range(6):
                    t = math.pi / 2 * i / 5
                    rows.append([])
                    for j in range(6):
                        p = math.pi / 2 * j / 5
                        normal = (sx * math.sin(t) * math.cos(p), sy * math.cos(t), sz * math.sin(t) * math.sin(p))
                        centre = (sx * flat, sy * flat, sz * flat)
                        rows[-1].append(add(tuple(c + rounding * e for c, e in zip(centre, normal)), normal))
                grid(rows if sx * sy * sz > 0 else [r[::-1] for r in rows], body)

    bring_up = {n: face for face, n in FACES}[top]
    c, s = math.cos(math.radians(turn_degrees)), math.sin(math.radians(turn_degrees))

    def place(p):
        if bring_up == (1, 0, 0):
            p = (-p[1], p[0], p[2])
        elif bring_up == (-1, 0, 0):
            p = (p[1], -p[0], p[2])
        elif bring_up == (0, 0, 1):
            p = (p[0], p[2], -p[1])
        elif bring_up == (0, 0, -1):
            p = (p[0], -p[2], p[1])
        elif bring_up == (0, -1, 0):
            p = (p[0], -p[1], -p[2])
        return (c * p[0] + s * p[2], p[1], -s * p[0] + c * p[2])

    moved = [tuple(a + b for a, b in zip(place(v), (x, half + y, z))) for v in vertices]
    obj.mesh(name, {materials[0]: body, materials[1]: pips}, moved, [place(n) for n in normals])


def light(obj, name, material, centre, target, width, height):
    """A rectangle that faces `target` and shines from that side."""
    forward = unit(sub(target, centre))
    right = unit(cross(forward, (0, 1, 0)))
    up = cross(right, forward)
    corners = [tuple(centre[k] + a * width / 2 * right[k] + b * height / 2 * up[k] for k in range(3))
               for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    obj.quad(name, material, corners)


def still_life():
    obj = Obj()
    obj.comment("A still life. Written by make_scene.py: change that, not this.")
    obj.comment("camera from 0.5 3.3 11.2 at 0 1.42 0 fov 29")
    obj.comment("background 0.05 0.06 0.075")
    obj.lines.append("mtllib still_life.mtl")

    obj.quad("table", "table", [(-9, 0, 6.5), (9, 0, 6.5), (9, 0, -4.2), (-9, 0, -4.2)])
    obj.quad("table_edge", "table", [(-9, 0, -4.2), (9, 0, -4.2), (9, -0.5, -4.2), (-9, -0.5, -4.2)])
    obj.quad("wall", "wall", [(-18, -6, -6.5), (18, -6, -6.5), (18, 13, -6.5), (-18, 13, -6.5)])

    light(obj, "key", "key_light", (-5.3, 7.0, -1.8), (0, 0.6, -0.6), 2.2, 2.2)
    light(obj, "fill", "fill_light", (7.0, 5.5, 8.5), (0, 1, 0), 5.0, 4.5)
    light(obj, "rim", "rim_light", (4.6, 6.4, -4.2), (0.5, 1, 0), 1.2, 3.0)

    bowl(obj, -1.95, -0.9)
    ball(obj, "orange_1", "orange", 0.6, (-2.05, 1.25, -1.25), 48, 0.95)
    ball(obj, "orange_2", "orange", 0.6, (3.0, 0.57, -0.35), 48, 0.95)
    apple(obj, "apple", "apple", (-1.3, 1.18, -0.75), leaning(18, 60))
    lemon(obj, "lemon", "lemon", (-2.5, 1.22, -0.35), leaning(74, 165))
    vase(obj, 0.35, -2.3)
    wine_glass(obj, 2.05, -0.75)
    tumbler(obj, 1.75, 1.3)
    ball(obj, "crystal", "glass", 0.72, (-0.35, 0.721, 0.95), 72)
    ball(obj, "pearl", "silver", 0.34, (3.15, 0.34, 1.0), 48)
    die(obj, "die_1", ("ivory", "pip_black"), -2.0, 1.75, 28, top=5)
    die(obj, "die_2", ("red_glass", "pip_white"), -2.95, 0.95, -20, top=3)
    die(obj, "die_3", ("ivory", "pip_black"), 0.95, 3.0, 62, top=6)
    die(obj, "die_4", ("teal", "pip_white"), -1.1, 2.9, 12, top=4, edge=0.62)
    return "\n".join(obj.lines) + "\n"


MATERIALS = """\
# Materials of still_life.obj. Written by make_scene.py: change that, not this.
# illum 2: matte with a clear coat (Ks, Ns)   3: metal (Ks, Ns)   7: glass (Ni, Tf)   Ke: a light
{}
"""

TABLE = {
    "table": "pattern wood\nKd 0.36 0.19 0.09\nKs 0.3 0.3 0.3\nNs 120\nNi 1.45\nillum 2",
    "wall": "Kd 0.30 0.36 0.38\nillum 1",
    "key_light": "Kd 0 0 0\nKe 78 63 45",
    "fill_light": "Kd 0 0 0\nKe 5.4 6.2 7.4",
    "rim_light": "Kd 0 0 0\nKe 16 17 18",
    "glass": "Kd 0 0 0\nNi 1.5\nTf 0.97 0.985 0.98\nd 0.1\nillum 7",
    "wine": "Kd 0 0 0\nNi 1.333\nTf 0.52 0.035 0.06\nd 0.1\nillum 7",
    "wine_in_glass": "Kd 0 0 0\nNi 0.8887\nTf 0.52 0.035 0.06\nd 0.1\nillum 7",
    "whisky": "Kd 0 0 0\nNi 1.36\nTf 0.9 0.5 0.12\nd 0.1\nillum 7",
    "whisky_in_glass": "Kd 0 0 0\nNi 0.9067\nTf 0.9 0.5 0.12\nd 0.1\nillum 7",
    "red_glass": "Kd 0 0 0\nNi 1.5\nTf 0.75 0.03 0.03\nd 0.1\nillum 7",
    "gold": "Kd 0 0 0\nKs 1.0 0.76 0.34\nNs 600\nillum 3",
    "copper": "Kd 0 0 0\nKs 0.95 0.62 0.47\nNs 160\nillum 3",
    "silver": "Kd 0 0 0\nKs 0.96 0.95 0.92\nNs 20000\nillum 3",
    "ivory": "Kd 0.78 0.74 0.64\nKs 0.5 0.5 0.5\nNs 900\nNi 1.5\nillum 2",
    "teal": "Kd 0.03 0.26 0.28\nKs 0.5 0.5 0.5\nNs 900\nNi 1.5\nillum 2",
    "pip_black": "Kd 0.02 0.02 0.02\nillum 1",
    "pip_white": "Kd 0.85 0.85 0.83\nillum 1",
    "orange": "Kd 0.82 0.33 0.03\nKs 0.3 0.3 0.3\nNs 60\nNi 1.4\nillum 2",
    "lemon": "Kd 0.85 0.66 0.06\nKs 0.3 0.3 0.3\nNs 80\nNi 1.4\nillum 2",
    "apple": "Kd 0.55 0.035 0.03\nKs 0.5 0.5 0.5\nNs 400\nNi 1.45\nillum 2",
    "stem": "Kd 0.16 0.09 0.04\nillum 1",
}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    materials = "\n".join(f"\nnewmtl {name}\n{text}" for name, text in TABLE.items())
    (folder / "still_life.obj").write_text(still_life())
    (folder / "still_life.mtl").write_text(MATERIALS.format(materials))


if __name__ == "__main__":
    main()
