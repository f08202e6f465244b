"""Make the conditional tables: every config of ``conditional.MODELS`` on data sets that scikit-learn brings.

    cd benchmarks; python -m search_quality.make_conditional [--data NAME,...]

One process, one thread, a few minutes for each data set. A table holds, for each config and split, the validation error
(of a number the squared error over that of the mean, at most ``WORST``) and the CPU seconds of the training.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from search_quality.conditional import DATA, every_config
from search_quality.problem import Config

SPLITS = 6
EPOCHS = 25
WORST = 2.0
NUMBERS = ("diabetes", "colour")  # data sets in which a number is to be predicted
Split = tuple[Any, ...]  # samples to train on and to validate with, and what is to be predicted of each
TRAINED = {"breast_cancer": 100, "digits": 200, "diabetes": 150, "colour": 70}  # samples: few, so that errors differ


def load(name: str) -> tuple[Any, Any]:
    """Samples and classes, or the numbers to predict, standardised: the disease's progression, a wine's colour."""
    from sklearn import datasets

    if name == "colour":  # of a wine, from the other twelve things measured
        measured = datasets.load_wine().data
        X, y = np.delete(measured, 9, axis=1), measured[:, 9]
    else:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "diabetes":  # its columns come with a norm of 1
        X = X * np.sqrt(len(X))
    return X, (y - y.mean()) / y.std() if name in NUMBERS else y


def model_of(config: Config, seed: int, number: bool) -> Any:
    """The classifier of a config, or the regressor if a ``number`` is to be predicted."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, SVR

    c = config
    if c["model"] == "svm":
        kind = SVR if number else SVC
        found = kind(
            kernel=c["kernel"], C=c["C"], gamma=c.get("gamma", 1.0), degree=c.get("degree", 3), max_iter=20_000
        )
    elif c["model"] == "forest":
        kind = RandomForestRegressor if number else RandomForestClassifier
        options = {"max_features": c["features"], "min_samples_leaf": c["leaf"], "bootstrap": c["bootstrap"]}
        found = kind(c["trees"], random_state=seed, **options)
    elif c["model"] == "mlp":
        kind = MLPRegressor if number else MLPClassifier
        options = {"activation": c["activation"], "learning_rate_init": c["rate"], "alpha": c["decay"]}
        layers = [c["width"]] * c["layers"]
        found = kind(hidden_layer_sizes=layers, batch_size=32, max_iter=EPOCHS, random_state=seed, **options)
    else:
        kind = KNeighborsRegressor if number else KNeighborsClassifier
        found = kind(c["neighbours"], weights=c["weights"], p=c["power"])
    return make_pipeline(StandardScaler(), found) if c.get("scaled") else found


def trained(config: Config, split: Split, seed: int, number: bool) -> tuple[float, float]:
    """Validation error and CPU seconds of the training of one config on one split."""
    X_train, X_test, y_train, y_test = split
    before = time.process_time()
    try:
        predicted = model_of(config, seed, number).fit(X_train, y_train).predict(X_test)
    except ValueError as error:
        if "non-finite parameter weights" not in str(error):
            raise
        predicted = np.full(len(y_test), np.inf)
    seconds = time.process_time() - before
    if number:
        return min(float(np.mean((predicted - y_test) ** 2) / np.var(y_test)), WORST), seconds
    return float(np.mean(predicted != y_test)), seconds


def splits(name: str) -> list[Split]:
    """The splits of a data set, each with as many samples to train on as ``TRAINED`` says."""
    from sklearn.model_selection import train_test_split

    X, y = load(name)
    kept = {"train_size": TRAINED[name], "stratify": None if name in NUMBERS else y}
    return [tuple(train_test_split(X, y, random_state=split, **kept)) for split in range(SPLITS)]


def make(name: str) -> Path:
    """Train everything on one data set and write its table."""
    warnings.filterwarnings("ignore")  # a few epochs do not converge
    parts, number = splits(name), name in NUMBERS
    found = np.array([[trained(each, split, i, number) for i, split in enumerate(parts)] for each in every_config()])
    DATA.mkdir(exist_ok=True)
    file = DATA / f"{name}.npz"
    np.savez_compressed(file, values=found[..., 0].astype(np.float32), seconds=found[..., 1].astype(np.float16))
    return file


def main() -> None:
    """Make the tables named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=",".join(TRAINED), help="data sets, with commas")
    for name in parser.parse_args().data.split(","):
        before = time.monotonic()
        file = make(name)
        print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB, {time.monotonic() - before:.0f} s", flush=True)


if __name__ == "__main__":
    main()
