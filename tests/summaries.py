"""A summary as an evaluation writes it, made of seeded numbers that fall as measured ones do."""

from itertools import combinations

import numpy as np

from chiaroscuro.choices import PAPER_FRACTIONS, PAPER_MAPS

SPEED = {
    ("original", "black"): 4.0, ("positive", "black"): 8.5, ("active", "black"): 7.0,
    ("original", "white"): 4.4, ("negative", "white"): 8.0, ("inactive", "white"): 6.6,
    ("negative", "black"): 2.2, ("inactive", "black"): 2.0,
    ("positive", "white"): 2.3, ("active", "white"): 2.1,
}  # fmt: skip
SUPPORT = {"active": 0.45, "inactive": 0.42, "positive": 0.8, "negative": 0.78}


def small_summary(
    images=1000,
    maps=PAPER_MAPS,
    fills=("black", "white"),
    protocols=("paper", "matched"),
    classes=10,
    accuracy=True,
    broken=2,
    seed=0,
    labels=None,
):
    """Figures of an evaluation with the given choices, in the shape of `summary.json`."""
    rng = np.random.default_rng(seed)
    curves = [
        _curve(rng, images, protocol, name, fill)
        for protocol in protocols
        for fill in fills
        for name in _names(maps, protocol)
    ]
    names = labels or [f"class {k}" for k in range(classes)]
    return {
        "schema": "chiaroscuro-evaluation/1",
        "data": {
            "source": "imagenette", "split": "validation", "images": images, "limit": None,
            "seed": 0, "broken_count": broken,
            "broken": [
                {"id": f"n0{k}.JPEG", "reason": "truncated file"} for k in range(min(50, broken))
            ],
        },
        "model": {
            "name": "resnet18", "sha256": "ab" * 32, "origin": {"weights": "runs/r18/model"},
            "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
        },
        "accuracy": {"value": 0.8357, "low": 0.8238, "high": 0.8469} if accuracy else None,
        "accuracy_note": "" if accuracy else "the classes of the set are not those of the model",
        "choices": {
            "target": "predicted", "maps": list(maps), "fills": list(fills),
            "protocols": list(protocols), "fractions": list(PAPER_FRACTIONS), "rivals": "all",
            "score": "logit", "seed": 0, "threads": 2, "batch": 8, "resamples": 1000,
            "flips": 9999, "confidence": 0.95, "rgb_only": False, "limit": None,
        },
        "curves": curves,
        "differences": _differences(rng, curves),
        "classes": [_of_class(rng, k, name, curves, accuracy) for k, name in enumerate(names)],
        "versions": {"chiaroscuro": "0.1.0", "torch": "2.9.0"},
    }  # fmt: skip


def _names(maps, protocol):
    return [*maps, "random", *(f"inverted:{n}" for n in maps)] if protocol == "matched" else maps


def _curve(rng, images, protocol, name, fill):
    x = np.array(PAPER_FRACTIONS)
    speed = 1.3 if ":" in name else SPEED.get((name, fill), 3.0) * (1 + 0.08 * rng.normal())
    used = np.minimum(x, SUPPORT.get(name, 0.9)) if protocol == "paper" else x
    if "random" in name:
        speed = 2.6
    mean = 0.09 + 0.91 * np.exp(-speed * used)
    spread = 1.96 * np.sqrt(mean * (1 - mean) / images)
    value = float(np.trapezoid(mean, x))
    half = 1.96 * 0.2 / images**0.5

    def lines(middle):
        ends = {"mean": middle, "low": middle - spread, "high": middle + spread}
        return {end: np.clip(v, 0, 1).round(12).tolist() for end, v in ends.items()}

    area = {"value": value, "low": max(0.0, value - half), "high": min(0.9, value + half)}
    return {
        "protocol": protocol, "map": name, "fill": fill,
        "control": name == "random" or ":" in name,
        "allegiance": lines(mean), "probability": lines(0.9 * mean), "changed": used.tolist(),
        "area": area, "area_by_range": {k: v / 0.9 for k, v in area.items()},
    }  # fmt: skip


def _differences(rng, curves):
    rows = []
    for a, b in combinations([c for c in curves if ":" not in c["map"]], 2):
        if (a["protocol"], a["fill"]) != (b["protocol"], b["fill"]):
            continue
        found = a["area"]["value"] - b["area"]["value"]
        p = 0.0001 if abs(found) > 0.02 else float(rng.uniform(0.05, 0.6))
        rows.append(
            {
                "protocol": a["protocol"], "fill": a["fill"], "map": a["map"],
                "against": b["map"], "difference": found, "low": found - 0.011,
                "high": found + 0.011, "p": p, "p_holm": min(1.0, 20 * p),
            }
        )  # fmt: skip
    return rows


def _of_class(rng, k, name, curves, accuracy):
    return {
        "class": name, "images": 400 - 3 * (k % 130),
        "accuracy": float(rng.uniform(0.6, 0.99)) if accuracy else None,
        "areas": [
            {
                "protocol": c["protocol"], "map": c["map"], "fill": c["fill"],
                "area": float(c["area"]["value"] * rng.uniform(0.7, 1.3)),
            }
            for c in curves
        ],
    }  # fmt: skip
