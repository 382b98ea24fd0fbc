"""The training spectra of one condition, and which of them are nearest to others, read in blocks, however many.

Every training spectrum is looked at, since a copy of any of them is to be found; memory holds a block of them and a
block of queries. The search for the nearest ones is in single precision, of spectra less the training mean, which keeps
``|a|^2 - 2 a b + |b|^2`` from cancelling: its error is some 1e-6 of a squared distance between spectra that differ by
noise. The `CANDIDATES` nearest are then compared anew by their differences in double precision, so that rounding in the
search could only matter if as many training spectra were equally near to within its error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mrs_synthesis.training_set import RowFile

SPACES = ("window", "components")
MOST_COMPONENTS = 32
BLOCK = 2048  # training spectra in memory
QUERIES = 2048  # queries in memory: enough for matrix products to take longer than reading
CANDIDATES = 4
EXACT = 128  # queries whose candidates are in memory


class Training:
    """The training spectra of one condition, read in blocks.

    Parameters
    ----------
    spectra
        All rows of the training set, complex (rows, W), or what reads them (`training_set.RowFile`).
    rows
        Which ones belong to the condition's training split.
    noise_sd
        SD of the real part of the noise of each of them, in the spectra's units.
    subjects
        The subject of each of them: names, or numbers in the order of names.
    """

    def __init__(
        self, spectra: np.ndarray | RowFile, rows: np.ndarray, noise_sd: np.ndarray, subjects: Sequence
    ) -> None:
        self.spectra, self.rows, self.noise_sd = spectra, np.asarray(rows), np.asarray(noise_sd)
        names, numbers = np.unique(np.asarray(subjects), return_inverse=True)
        self.n_subjects = len(names)
        self._order = np.argsort(numbers, kind="stable")
        self._starts = np.searchsorted(numbers[self._order], np.arange(self.n_subjects + 1))
        self.mean, self.basis = self._components()
        self._population: np.ndarray | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the spectra as real vectors, (at most `BLOCK`, 2 W)."""
        for start in range(0, len(self.rows), BLOCK):
            yield vectors(self.spectra[self.rows[start : start + BLOCK]])

    def project(self, values: np.ndarray) -> np.ndarray:
        """Return the scores (rows, components) of real vectors."""
        return (values - self.mean) @ self.basis

    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean, and principal components with more variance than noise alone can have (Marchenko & Pastur 1967)."""
        n = len(self.rows)
        mean = sum(block.sum(axis=0) for block in self.blocks()) / n
        covariance = sum((block - mean).T @ (block - mean) for block in self.blocks()) / n
        variances, directions = np.linalg.eigh(covariance)
        edge = np.mean(self.noise_sd**2) * (1 + np.sqrt(mean.size / n)) ** 2
        count = int(np.clip(np.count_nonzero(variances > edge), 2, MOST_COMPONENTS))
        return mean, directions[:, : -count - 1 : -1]

    def subject_means(self, picks: Sequence[int]) -> np.ndarray:
        """Return the mean complex spectra (picks, W) of training subjects, numbered in the order of their names."""
        wanted, places = np.unique(picks, return_inverse=True)
        return np.stack([self._subject_mean(number) for number in wanted])[places]

    def _subject_mean(self, number: int) -> np.ndarray:
        own = self._order[self._starts[number] : self._starts[number + 1]]
        return self.spectra[self.rows[own]].mean(axis=0, dtype=complex)

    @property
    def population_mean(self) -> np.ndarray:
        """The mean over subjects of their mean complex spectra, (W,)."""
        if self._population is None:
            self._population = sum(self._subject_mean(number) for number in range(self.n_subjects)) / self.n_subjects
        return self._population

    def nearest(self, values: np.ndarray, spaces: Sequence[str] = SPACES) -> dict[str, np.ndarray]:
        """Return the distances (rows, 2) of complex spectra (rows, W) to the two nearest ones, by space."""
        found: dict[str, list[np.ndarray]] = {space: [] for space in spaces}
        for start in range(0, len(values), QUERIES):
            queries = vectors(values[start : start + QUERIES])
            if "window" in found:
                near = (queries - self.mean).astype(np.float32)
                centred = ((block - self.mean).astype(np.float32) for block in self.blocks())
                found["window"].append(self._distances(queries, *candidates(near, centred)))
            if "components" in found:
                scores = (self.project(block) for block in self.blocks())
                found["components"].append(two_nearest(self.project(queries), scores))
        return {space: np.concatenate(parts) for space, parts in found.items()}

    def nearest_of(self, groups: Sequence[np.ndarray], spaces: Sequence[str] = SPACES) -> dict[str, list[np.ndarray]]:
        """Return `nearest` of several groups, the training spectra being read once for all that fit into memory."""
        ends = np.cumsum([len(group) for group in groups])[:-1]
        found = self.nearest(np.concatenate(groups), spaces)
        return {space: np.split(distances, ends) for space, distances in found.items()}

    def _distances(self, queries: np.ndarray, which: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return the two smallest distances (queries, 2) to the training spectra numbered `which`, where `known`."""
        squares = np.empty(which.shape)
        for start in range(0, len(queries), EXACT):
            part = slice(start, start + EXACT)
            near = vectors(self.spectra[self.rows[which[part].ravel()]]).reshape(*which[part].shape, -1)
            squares[part] = np.sum((near - queries[part, None]) ** 2, axis=-1)
        squares = np.sort(np.where(known, squares, np.inf), axis=1)[:, :2]
        return _roots(squares, np.sum(queries**2, axis=1)[:, None])


def vectors(spectra: np.ndarray) -> np.ndarray:
    """Return complex spectra (rows, W) as real vectors (rows, 2 W)."""
    return np.ascontiguousarray(spectra, dtype=np.complex128).view(np.float64)


def smallest(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and values (rows, n) of each row's smallest values, smallest first; `values` are overwritten.

    Where there are no more values, they are infinite.
    """
    rows = np.arange(len(values))
    places = np.empty((len(values), n), np.int64)
    found = np.empty((len(values), n), values.dtype)
    for k in range(n):
        places[:, k] = values.argmin(axis=1)
        found[:, k] = values[rows, places[:, k]]
        values[rows, places[:, k]] = np.inf
    return places, found


def products(queries: np.ndarray, block: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """Return the products of all queries with all rows of a block, in the place of the `last` block's if that fits.

    New memory for each block would take as long as a third of the products.
    """
    fits = last is not None and last.shape[1] == len(block)
    return np.matmul(queries, block.T, out=last if fits else None)


def candidates(queries: np.ndarray, blocks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers (queries, `CANDIDATES`) of the nearest of all rows in `blocks`, and whether there are so many.

    All are in single precision. A query's own square is the same for all rows, and is left out.
    """
    best = np.full((len(queries), CANDIDATES), np.inf, np.float32)
    which = np.zeros((len(queries), CANDIDATES), np.int64)
    first, squares = 0, None
    for block in blocks:
        squares = products(queries, block, squares)
        squares *= -2
        squares += np.einsum("ij,ij->i", block, block)
        places, found = smallest(squares, CANDIDATES)
        both = np.hstack([best, found])
        order = np.argsort(both, axis=1, kind="stable")[:, :CANDIDATES]
        best = np.take_along_axis(both, order, axis=1)
        which = np.take_along_axis(np.hstack([which, places + first]), order, axis=1)
        first += len(block)
    return which, np.isfinite(best)


def two_nearest(queries: np.ndarray, blocks: Iterator[np.ndarray] | Sequence[np.ndarray]) -> np.ndarray:
    """Return the Euclidean distances (queries, 2) to the nearest and second nearest of all rows in `blocks`."""
    best = np.full((len(queries), 2), np.inf)
    norms, squares = np.sum(queries**2, axis=1)[:, None], None
    for block in blocks:
        squares = products(queries, block, squares)
        squares *= -2
        squares += norms + np.sum(block**2, axis=1)
        best = np.sort(np.hstack([best, smallest(squares, 2)[1]]), axis=1)[:, :2]
    return _roots(best, norms)


def _roots(squares: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return distances; a square below 1e-12 of the query's is rounding, be it of a difference of sums or of a file."""
    return np.sqrt(np.where(squares < 1e-12 * norms, 0.0, squares))
