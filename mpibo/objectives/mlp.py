"""Test accuracy of a multi-layer perceptron as a function of its learning rate.

The setting is Table 1 of the worksheet "Machine Learning in the Cloud" (Meissner and Ek, 2020). Accuracy has a plateau
over three decades of the rate: judge a search by the accuracy that it reaches, not by the rate.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

from mpibo.objectives import objective


@functools.cache
def data() -> tuple[Any, Any, Any, Any]:
    """Training and test points ``(750, 20)`` and ``(250, 20)``, then the labels of each, 0 or 1."""
    from sklearn.datasets import make_classification
    from sklearn.model_selection import train_test_split

    points, labels = make_classification(n_samples=1000, n_classes=2, n_clusters_per_class=2, random_state=1)
    train, test, train_labels, test_labels = train_test_split(points, labels, stratify=labels, random_state=1)
    return train, test, train_labels, test_labels


@objective({"learning_rate": {"float": [1e-5, 1e5], "log": True}}, maximize=True)
def mlp(learning_rate: float, *, max_iter: int = 100, hidden: int = 50) -> dict[str, Any]:
    """Fit the classifier and give its test accuracy, to be maximised; the training accuracy and loss are metrics."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    train, test, train_labels, test_labels = data()
    model = MLPClassifier(
        hidden_layer_sizes=(hidden,), activation="logistic", solver="adam", learning_rate="constant",
        learning_rate_init=learning_rate, max_iter=max_iter, momentum=0, warm_start=False, random_state=1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter ends most fits: that is the setting
        model.fit(train, train_labels)
    result: dict[str, Any] = {
        "value": float(model.score(test, test_labels)),
        "train_accuracy": float(model.score(train, train_labels)),
        "iterations": int(model.n_iter_),
    }
    if math.isfinite(model.loss_):
        result["loss"] = float(model.loss_)
    return result
