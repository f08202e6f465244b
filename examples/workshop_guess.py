"""Workshop, the guessing game: the loss is known at four values of alpha. Which alpha next?

The answer of a Gaussian process with expected improvement, between the known values and in a wider range, the model
that gives it, and the same model by hand as on the slides: mean K*' K^-1 f, covariance K** - K*' K^-1 K*.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures import BLUE, GREEN, ORANGE, arguments, plt, save

import mpibo
from mpibo.acquisition.scores import ei
from mpibo.models.gp import GP

KNOWN = {0.0001: 0.4233, 0.0002: 0.4331, 0.0004: 0.4209, 0.1: 1.9209}
RANGES = {"between the known": (1e-4, 1e-1, "log"), "in a wider range": (1e-5, 1.0, "log")}


def by_hand(model: GP, X: Any, y: Any, at: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of the model at ``at (m, 1)``, as the slides have them."""
    variance, noise, *_ = model.kernel.split(model.theta)
    K = model.kernel.cross(model.theta, X, X) + noise * np.eye(len(X))
    K_star = model.kernel.cross(model.theta, X, at)
    mean = model.mean + K_star.T @ np.linalg.solve(K, model.values(y))
    covariance = variance - np.einsum("nm,nm->m", K_star, np.linalg.solve(K, K_star))  # its diagonal
    return mean, np.sqrt(np.maximum(covariance, 0))


def draw(top: Any, below: Any, title: str, space: mpibo.Space, answer: float) -> None:
    """The model and its acquisition over ``space``, both computed anew from the four losses."""
    X, y = space.encode([{"alpha": alpha} for alpha in KNOWN]), np.array(list(KNOWN.values()))
    model = GP(space, transform="none")  # of standardised values
    model.fit(X, y, np.random.default_rng(0))
    low, high = space.parameters["alpha"].low, space.parameters["alpha"].high
    alpha = np.clip(np.geomspace(low, high, 600), low, high)
    at = space.encode([{"alpha": float(each)} for each in alpha])
    mean, std = model.predict(at)
    difference = max(np.abs(a - b).max() for a, b in zip((mean, std), by_hand(model, X, y, at), strict=True))
    print(f"  by the slides' formulas the model is the same to {difference:.0e}")

    gain = y.std() * ei(mean, std, float(model.predict(X)[0].min()))
    print(f"  expected improvement is highest at {alpha[gain.argmax()]:.2g}: {gain.max():.3f}")
    mean, std = y.mean() + y.std() * mean, y.std() * std
    top.fill_between(alpha, mean - 2 * std, mean + 2 * std, color=BLUE, alpha=0.18, label="mean ± 2 std", linewidth=0)
    top.semilogx(alpha, mean, color=BLUE)
    top.plot(list(KNOWN), y, "o", color="black", label="known", clip_on=False, zorder=5)
    below.fill_between(alpha, gain, color=GREEN, alpha=0.18, linewidth=0)
    below.semilogx(alpha, gain, color=GREEN)
    for axes in (top, below):
        axes.axvline(answer, color=ORANGE, linestyle="--", label=f"next: {answer:.2g}", clip_on=False)
    top.set_title(title)
    top.legend(loc="upper center", ncols=3)
    top.set_ylim(-0.4, 3.3)
    below.set(xlabel="alpha", ylim=(0, None))


def main() -> None:
    """Tell the four losses, ask for the next alpha, draw the model."""
    given = arguments(__doc__)
    figure, panels = plt.subplots(2, 2, figsize=(10, 4.8), sharex="col", height_ratios=(2.4, 1))
    for column, (title, alpha) in enumerate(RANGES.items()):
        search = mpibo.Search({"alpha": alpha}, "ambs:model=gp,acquisition=ei,n_initial=4,transform=none")
        for known, loss in KNOWN.items():
            search.add({"alpha": known}, loss)
        answer = search.ask()[0].config["alpha"]
        print(f"{title}, {alpha[0]:g} to {alpha[1]:g}: next {answer:.2g}")
        draw(*panels[:, column], f"which alpha next, {title}?", search.space, answer)
    panels[0, 0].set(ylabel="loss")
    panels[1, 0].set(ylabel="expected\nimprovement")
    save(figure, given.out, "guess")


if __name__ == "__main__":
    main()
