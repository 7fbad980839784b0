"""How a list is made, in numbers."""

from dataclasses import dataclass, field

from schemas.errors import ConfigurationError

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class CrowdSettings:
    """What is kept of all users' watches: bounded, and forgotten by `tau_ms`; popularity by `trend_tau_ms`.

    At most `most_videos` are followed, each with its `neighbours` most co-watched; a watch is paired with the latest
    `history` of its user. A lift is shrunk by `shrink` co-watches as they would be by chance, and the sum over n
    watches, which are not independent, divided by n to the power of `damping`. Until `warm_watches` are learned, users
    bring those that their states name.
    """

    most_videos: int = 65_536
    neighbours: int = 128
    history: int = 100
    tau_ms: int = 7 * _DAY_MS
    trend_tau_ms: int = 2 * _DAY_MS
    shrink: float = 150.0
    damping: float = 0.25
    warm_watches: int = 50_000


@dataclass(frozen=True)
class RetrievalSettings:
    """How a list is made; the unrestricted lane gets the places that the other lanes leave.

    Shares are of the `k` places. `prior_*` shrink a user's own numbers: shares towards equal ones with the weight of so
    much satisfaction, rates towards that of all watches (`prior_rate` without a crowd) with the weight of so many, and
    the rate of a new video likewise with `prior_impressions`. A score is the cosine to the user's taste,
    `quality_weight` times what all users' watches say and, in the lane of an attribute, `probability_weight` times
    log p. Where the videos of an attribute are fewer than `thin` times its places, the fallback ladder adds to them.

    `diversity` is the lambda of maximal marginal relevance, 1: off, among a lane's next `head` videos; `calibration`
    weighs how much a video brings the list towards the user's shares. Of videos with a cosine above `near_duplicate`
    (1: off) one is served. `languages` None: all.
    """

    k: int = 100
    restricted_share: float = 0.6
    popular_share: float = 0.05
    co_watched_share: float = 0.05
    newest_share: float = 0.1
    unrestricted_share: float = 0.2
    explore_share: float = 0.05
    max_attributes: int = 12
    min_watches: float = 0.5
    session_weight: float = 0.5
    prior_satisfaction: float = 10.0
    prior_watches: float = 20.0
    prior_rate: float = 0.5
    prior_impressions: float = 10.0
    new_age_ms: int = 48 * _HOUR_MS
    new_impressions: float = 50.0
    new_sample: int = 200
    probability_weight: float = 0.1
    quality_weight: float = 0.2
    lift_weight: float = 0.4
    overfetch: int = 3
    crowd_fetch: int = 3
    thin: int = 2
    uncertain_p: float = 0.5
    max_age_ms: int = 90 * _DAY_MS
    languages: tuple[str, ...] | None = None
    near_duplicate: float = 0.95
    diversity: float = 0.7
    calibration: float = 0.1
    head: int = 8
    creator_limit: int = 2
    creator_window: int = 10
    crowd: CrowdSettings = field(default_factory=CrowdSettings)

    def __post_init__(self) -> None:
        """Refuse a blend that is all restriction: it would only ever confirm itself."""
        shares = {
            name: getattr(self, name)
            for name in ("restricted_share", "popular_share", "co_watched_share", "newest_share")
        }
        if min(shares.values()) < 0 or sum(shares.values()) > 1 - self.unrestricted_share + 1e-9:
            named = ", ".join(f"{name} {share}" for name, share in shares.items())
            raise ConfigurationError(f"{named} must leave at least {self.unrestricted_share} to the unrestricted lane")
