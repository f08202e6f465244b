"""Worksheet, figure 3: Thompson sampling: the posterior, the true function, one draw, and the draw's minimum."""

from __future__ import annotations

import numpy as np
from pictures import BLUE, GREY, ORANGE, arguments, plt, save

import mpibo
from mpibo.models.gp import GP
from mpibo.models.paths import Paths

SPACE = mpibo.Space({"x": (0.0, 1.0)})
KNOWN = [0.0, 0.1, 0.2, 0.5, 0.62, 0.72, 0.93]


def truth(x: np.ndarray) -> np.ndarray:
    """A function with two valleys."""
    return (0.6 + x) * np.sin(9 * x + 1)


def main() -> None:
    """Fit a Gaussian process to seven values, draw functions from it, look for their minima."""
    given = arguments(__doc__)
    draws = 50 if given.quick else 2000
    X, y = SPACE.encode([{"x": x} for x in KNOWN]), truth(np.array(KNOWN))
    model = GP(SPACE, transform="none")  # its values are standardised
    rng = np.random.default_rng(1)
    model.fit(X, y, rng)
    x = np.linspace(0, 1, 401)
    mean, std = model.predict(x[:, None])
    paths = model.mean + Paths(model.posterior, model.z, draws, rng)(x[:, None])

    inside = float(np.mean(np.abs(paths - mean) <= 2 * std))
    least = x[paths.argmin(axis=1)]
    print(f"the true minimum lies at {x[truth(x).argmin()]:.3f}, that of the posterior mean at {x[mean.argmin()]:.3f}")
    print(f"the first draw's minimum lies at {least[0]:.3f}: that is where Thompson sampling evaluates next")
    print(f"of {draws} draws {100 * inside:.1f} % of the values lie within 2 standard deviations (normal: 95.4 %)")
    left = 100 * float(np.mean(least < 0.6))
    print(f"their minima: {left:.0f} % in the left valley, where the true one is, {100 - left:.0f} % at the right")

    mean, std, drawn = y.mean() + y.std() * mean, y.std() * std, y.mean() + y.std() * paths[0]
    figure, (top, below) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, height_ratios=(3, 1))
    top.fill_between(x, mean - 2 * std, mean + 2 * std, color=BLUE, alpha=0.18, linewidth=0, label="posterior, ± 2 std")
    top.plot(x, mean, color=BLUE, label="its mean")
    top.plot(x, truth(x), "--", color=GREY, label="true function")
    top.plot(x, drawn, color=ORANGE, label="one draw")
    top.plot(KNOWN, y, "o", color="black", markersize=5, label="known")
    top.plot(
        least[0], drawn.min(), "v", color=ORANGE, markersize=11, markeredgecolor="black", label="the draw's minimum"
    )
    top.set(ylabel="f(x)", ylim=(-1.5, 2.7))
    top.legend(ncols=3, loc="upper center")
    below.hist(least, bins=np.linspace(0, 1, 51), color=ORANGE, weights=np.full(draws, 100 / draws))
    below.set(xlabel="x", ylabel="% of minima", title=f"minima of {draws} draws")
    save(figure, given.out, "figure3")


if __name__ == "__main__":
    main()
