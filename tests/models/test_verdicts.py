"""A run decided at once says what `decide` says of each video."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cascade import BandLimits, decide
from models.verdicts import Verdicts
from schemas.annotation import AttributeScore

IDS = ("funny", "100%_eerie", 'quo"ted')
BANDS = {"funny": BandLimits(0.2, 0.7), "100%_eerie": BandLimits(0.5, 0.5), 'quo"ted': BandLimits(0.0, 1.0)}
CERTIFIED = {"funny"}
NEAR = [0.0, 1e-9, 0.2, 0.5, 0.7, 1.0, float(np.nextafter(np.float32(0.7), np.float32(0)))]
P = st.one_of(st.sampled_from(NEAR), st.floats(0, 1, width=32))


@given(st.lists(st.tuples(P, P, P), max_size=6))
def test_bands_labels_and_certificates_are_those_of_decide(rows: list[tuple[float, ...]]):
    probability = np.array(rows, np.float32).reshape(-1, len(IDS))
    verdicts = Verdicts(BANDS, IDS, CERTIFIED).of(probability)
    for p, verdict in zip(probability, verdicts, strict=True):
        expected = decide(p, BANDS, IDS, CERTIFIED)
        got = msgspec.json.decode(verdict.attributes, type=dict[str, AttributeScore])
        assert got == {
            name: msgspec.structs.replace(score, p=pytest.approx(score.p, rel=1e-5)) for name, score in expected.items()
        }
        assert verdict.uncertain == tuple(name for name, score in expected.items() if score.label is None)
        assert tuple(msgspec.json.decode(verdict.uncertain_json)) == verdict.uncertain


def test_more_patterns_than_are_kept_are_still_right(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("models.verdicts._PATTERNS", 1)
    probability = np.array([[0.1, 0.1, 0.5], [0.3, 0.9, 0.5], [0.1, 0.1, 0.5]], np.float32)
    first, other, again = Verdicts(BANDS, IDS, CERTIFIED).of(probability)
    assert first == again
    assert first.uncertain != other.uncertain
