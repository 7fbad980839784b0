"""Drawing a silver set: half of it uniform, a quarter near the bands' edges, a quarter spread evenly over clusters.

One draw with unequal, exactly known inclusion probabilities (systematic sampling proportional to size, Madow 1949), and
not three draws put together: the size is as asked, no video comes twice, and 1 / sampling_prob weighs without bias.
Needs the extra `train` (scipy).
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.cascade import BandLimits

Floats = NDArray[np.float64]

STRATA = ("uniform", "near", "cluster")
NEAR_SHARE = 0.1
"""So much of the corpus counts as near an edge."""
_FITTED = 20_000
"""More vectors don't move fifty centres."""


@dataclass(frozen=True)
class Draw:
    """Who was drawn: index [n] into the corpus, inclusion probability [n], and for which of STRATA [n].

    Those drawn as "uniform" are a uniform sample of the corpus by themselves.
    """

    index: NDArray[np.intp]
    probability: Floats
    stratum: NDArray[np.intp]


def draw(near: NDArray[np.bool_], cluster: NDArray[np.intp], size: int, seed: int) -> Draw:
    """Draw `size` of the videos, of which `near` [m] are near an edge and `cluster` [m] says where they lie."""
    rng = np.random.default_rng(seed)
    videos = len(near)
    if size >= videos:
        return Draw(np.arange(videos), np.ones(videos), np.zeros(videos, np.intp))
    uniform, others = shares(near, cluster, size)
    probability = np.minimum(uniform + others.sum(axis=0), 1.0)
    order = np.lexsort((rng.random(videos), cluster))
    ends = np.cumsum(probability[order])
    points = (rng.random() + np.arange(size)) * (ends[-1] / size)
    index = np.sort(order[np.searchsorted(ends, points, side="right").clip(max=videos - 1)])
    chances = np.vstack([np.full(size, uniform), others[:, index]]) / probability[index]
    stratum = (rng.random(size) > np.cumsum(chances, axis=0)).sum(axis=0).clip(max=len(STRATA) - 1)
    return Draw(index, probability[index], stratum)


def shares(near: NDArray[np.bool_], cluster: NDArray[np.intp], size: int) -> tuple[float, Floats]:
    """Return how much of a video's inclusion probability each stratum brings: uniform, and [near, cluster] by [m].

    The sum over all videos is `size`. No probability is above 1: where the shares of a stratum would add up to more,
    the excess goes to the others in it.
    """
    videos = len(near)
    members = np.bincount(cluster)
    spread = 1 / (np.count_nonzero(members) * members[cluster])
    others = size / 4 * np.vstack([near / max(np.count_nonzero(near), 1), spread])
    uniform = size / 2 / videos
    both = others.sum(axis=0)
    low, high = 0.0, 1.0
    while np.minimum(1 - uniform, high * both).sum() < size / 2 and high < 1e12:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1 - uniform, middle * both).sum() < size / 2 else (low, middle)
    return uniform, others * (np.minimum(1 - uniform, high * both) / both)


def near_edges(
    probability: NDArray[np.float32], bands: Mapping[str, BandLimits], ids: Sequence[str]
) -> NDArray[np.bool_]:
    """Return which texts [m] are the nearest to the edge of a band, for some attribute; every attribute counts alike.

    Distances are in log-odds and ranked within an attribute. An edge of 0 or 1 is none: nothing lies beyond it.
    """
    videos = len(probability)
    rank = np.full(videos, videos, np.intp)
    for a, name in enumerate(ids):
        edges = [edge for edge in bands[name] if 0 < edge < 1]
        if edges:
            distance = np.min([np.abs(_logit(probability[:, a]) - _logit(np.float32(edge))) for edge in edges], axis=0)
            ranked = np.empty(videos, np.intp)
            ranked[np.argsort(distance, kind="stable")] = np.arange(videos)
            rank = np.minimum(rank, ranked)
    chosen = np.argsort(rank, kind="stable")[: max(1, round(NEAR_SHARE * videos))]
    near = np.zeros(videos, np.bool_)
    near[chosen] = rank[chosen] < videos
    return near


def clusters(vectors: NDArray[np.float16], count: int, seed: int) -> NDArray[np.intp]:
    """Return the k-means cluster of each vector [m, dim]; some of the `count` may stay empty."""
    from scipy.cluster.vq import kmeans2, vq

    rng = np.random.default_rng(seed)
    wide = vectors.astype(np.float32)
    some = wide if len(wide) <= _FITTED else wide[rng.choice(len(wide), _FITTED, replace=False)]
    centres = np.unique(some, axis=0)
    if len(centres) > count:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
            centres, _ = kmeans2(some, count, iter=20, minit="++", rng=rng)
    return vq(wide, centres)[0].astype(np.intp)


def _logit(p: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))
