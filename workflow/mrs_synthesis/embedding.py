"""Single transients as points in two dimensions: principal axes of the real training ones, and t-SNE.

A point is one transient of all edit conditions together (OFF and ON of a pair), so that both are seen at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.fidelity_metrics import Axes, fit_axes
from mrs_synthesis.subset import evenly

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 1500
MOST_AXES = 30  # that t-SNE starts from
PERPLEXITY = 30.0
COLUMNS = ("method", "split", "source", "decoder", "site", "unit", "x", "y")


@dataclass(frozen=True)
class Cloud:
    """Transients of one source.

    Attributes
    ----------
    split, source, decoder
        Labels.
    units, sites
        Of each scan.
    spectra
        Complex, (scans, transients, W), edit conditions one after the other.
    """

    split: str
    source: str
    decoder: str | None
    units: Sequence[str]
    sites: Sequence[str]
    spectra: np.ndarray

    def thinned(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `most` spectra (rows, W), spread over scans and, in these, over time, and the scan of each."""
        n_units, n_transients, width = self.spectra.shape
        scans = evenly(n_units, most)
        times = evenly(n_transients, max(1, most // n_units))
        return self.spectra[np.ix_(scans, times)].reshape(-1, width), np.repeat(scans, len(times))


def tsne(scores: np.ndarray, seed: int) -> np.ndarray:
    """Return t-SNE coordinates (rows, 2) of scores (rows, k >= 2), begun from the first two; NaN with too few rows.

    scikit-learn's, with the perplexity `PERPLEXITY`, or a third of the rows if that is less.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(scores) - 1) / 3)
    spread = scores[:, :2].std(axis=0).max()
    if perplexity < 2 or not spread:
        return np.full((len(scores), 2), np.nan)
    start = scores[:, :2] / spread * 1e-4
    # One thread: sums in another order give other last digits, which t-SNE makes larger
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed).fit_transform(scores)


def embed(clouds: Sequence[Cloud], noise_sd: float, seed: int) -> tuple[pd.DataFrame, Axes]:
    """Return the table and its principal axes.

    Parameters
    ----------
    clouds
        The first is that of the training spectra, to which alone the axes are fitted.
    noise_sd
        Of the training spectra, see `fit_axes`.
    seed
        Of t-SNE.
    """
    import pandas as pd

    training = clouds[0].spectra
    axes = fit_axes(training.reshape(-1, training.shape[-1]), noise_sd, MOST_AXES)
    scores, labels = [], []
    for cloud in clouds:
        spectra, scans = cloud.thinned(MOST_POINTS // len(clouds))
        scores.append(axes.scores(spectra))
        labels += [(cloud.split, cloud.source, cloud.decoder, cloud.sites[i], cloud.units[i]) for i in scans]
    points = np.concatenate(scores)
    tables = []
    for method, places in (("pca", points[:, :2]), ("tsne", tsne(points, seed))):
        table = pd.DataFrame(labels, columns=list(COLUMNS[1:-2]))
        table.insert(0, "method", method)
        tables.append(table.assign(x=places[:, 0], y=places[:, 1]).dropna(subset=["x", "y"]))
    return pd.concat(tables, ignore_index=True), axes


def descriptions(axes: Axes) -> dict[str, dict]:
    """Return the data dictionary's words on the columns."""
    share = [f"{100 * value:.1f} %" for value in axes.share[:2]]
    return {
        "method": {
            "Description": "Projection of single transients (all edit conditions together)",
            "Levels": {
                "pca": f"principal axes of the real training transients alone; x has {share[0]} and y {share[1]} of "
                "their variance, noise included",
                "tsne": f"t-SNE of the scores on the first {axes.basis.shape[1]} axes, perplexity {PERPLEXITY:g} (or a "
                "third of the points), begun from the principal axes; only neighbourhoods mean something, not distances"
                " between groups, nor their sizes",
            },
        },
        "split": {"Description": "What the point is: training, held-out (real ones both), synthetic or noise"},
        "source": {
            "Description": "real, a synthesis mode, reconstruction (of held-out transients), or noise (of the held-out "
            "transients' SD, without a signal)"
        },
        "decoder": {"Description": "Decoder output of synthetic transients: mean or sampled"},
        "unit": {"Description": "Scan; of synthetic transients the one that they were made for"},
        "x": {"Description": "First coordinate; pca: in the training set's scale"},
        "y": {"Description": "Second coordinate"},
    }
