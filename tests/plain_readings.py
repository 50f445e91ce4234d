"""Readings of sentence vectors computed plainly, in double precision, from whole matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

Matrix = npt.NDArray[np.float64]


def units(foreign: npt.NDArray[np.floating], english: npt.NDArray[np.floating], how: str) -> tuple[Matrix, Matrix]:
    """Both sides raw, centred or whitened (by the symmetric root, where the program takes a triangular one)."""
    one, other = foreign.astype(np.float64), english.astype(np.float64)
    if how != "raw":
        one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    if how == "whitened":
        covariance, _ = ledoit_wolf(np.concatenate([one, other]), assume_centered=True)
        values, axes = np.linalg.eigh(covariance)
        root = axes / np.sqrt(values) @ axes.T
        one, other = one @ root, other @ root
    return one / np.linalg.norm(one, axis=1)[:, None], other / np.linalg.norm(other, axis=1)[:, None]


def accuracies(foreign: Matrix, english: Matrix) -> dict[tuple[str, str], float]:
    """The accuracy in percent by the side that queries and by cosine or margin; row i translates row i."""
    cosines = english @ foreign.T
    near = np.sort(cosines, axis=1)[:, -4:].mean(axis=1), np.sort(cosines, axis=0)[-4:].mean(axis=0)
    margin = cosines / ((near[0][:, None] + near[1][None]) / 2)
    # A margin is looked for among the nearest by cosine.
    of_rows = np.where(cosines >= np.sort(cosines, axis=1)[:, -4:-3], margin, 0)
    of_columns = np.where(cosines >= np.sort(cosines, axis=0)[-4:-3], margin, 0)
    own = np.arange(len(cosines))
    return {
        ("english", "cosine"): 100 * float((cosines.argmax(axis=1) == own).mean()),
        ("foreign", "cosine"): 100 * float((cosines.argmax(axis=0) == own).mean()),
        ("english", "margin"): 100 * float((of_rows.argmax(axis=1) == own).mean()),
        ("foreign", "margin"): 100 * float((of_columns.argmax(axis=0) == own).mean()),
    }
