"""Heads that look at tokens, as they are fitted and as they learn."""

import numpy as np

from models.attention import States, fit_attention
from models.distil_loss import Targets
from models.distil_rows import Rows

SIZE = 32


def texts(count: int, seed: int) -> tuple[States, Targets]:
    """Texts of 3 to 30 tokens of noise; in every third, one of them points in a direction of its own."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 31, count)
    states = States(lengths.tolist(), SIZE)
    q = (np.arange(count) % 3 == 0).astype(np.float32)[:, None]
    for i, length in enumerate(lengths):
        said = rng.normal(0, 1, (length, SIZE))
        if q[i, 0]:
            said[rng.integers(length)] += 2
        states.put(i, said)
    return states, Targets.of(Rows([""] * count, q, np.ones_like(q), np.ones_like(q, np.bool_)))


def test_one_telling_token_is_found_in_a_long_text():
    states, targets = texts(4_000, 1)
    fitted = fit_attention(states, np.arange(3_000), targets, 1, lambda: None)
    later = np.arange(3_000, 4_000)
    said = fitted.logits(states, later)[:, 0] > 0
    assert np.mean(said == (targets.hard[later, 0] > 0.5)) > 0.9


def test_what_is_said_of_a_text_does_not_depend_on_its_neighbours():
    states, targets = texts(300, 2)
    fitted = fit_attention(states, np.arange(300), targets, 1, lambda: None)
    together = fitted.logits(states, np.arange(300))
    alone = np.concatenate([fitted.logits(states, np.array([i])) for i in range(20)])
    np.testing.assert_allclose(together[:20], alone, atol=1e-4)


def test_states_of_texts_are_theirs_and_the_rest_is_marked():
    states = States([2, 0, 3], SIZE)
    for text, length in enumerate([2, 0, 3]):
        states.put(text, np.full((length, SIZE), text + 1))
    x, there = states.of(np.array([2, 0, 1]))
    assert there.tolist() == [[True, True, True], [True, True, False], [False, False, False]]
    assert x[:, :, 0].tolist() == [[3, 3, 3], [1, 1, 0], [0, 0, 0]]
