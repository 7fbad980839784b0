"""The bag of words and pairs, as it is fitted and as the graph computes it."""

import numpy as np
import onnxruntime as ort

from models.distil_loss import Targets
from models.distil_rows import Rows
from models.features import pad
from models.nano_graph import Weights, build
from models.words import PAIRS, Words, count_words, fit_words

VOCABULARY, ATTRIBUTES = 50, 3


def labelled(present: list[bool]) -> Rows:
    q = np.array(present, np.float32)[:, None]
    return Rows([""] * len(q), q, np.ones_like(q), np.ones_like(q, np.bool_))


def test_the_graph_adds_up_the_same_words_and_pairs_as_the_fit():
    rng = np.random.default_rng(1)
    rows = [rng.integers(2, VOCABULARY, length).tolist() for length in (1, 2, 7, 3, 12, 0)]
    words = Words(
        rng.normal(0, 1, (VOCABULARY + PAIRS, ATTRIBUTES)).astype(np.float16).astype(np.float32),
        rng.normal(0, 1, ATTRIBUTES).astype(np.float32),
    )
    blank = np.zeros((4, 4), np.float32)
    model = build(
        Weights(
            words=words.weights,
            features=np.zeros((VOCABULARY, 4), np.float32),
            hidden=blank,
            hidden_bias=blank[0],
            heads=np.zeros((4, ATTRIBUTES), np.float32),
            bias=words.bias,
            centre=blank[0],
        )
    )
    ids, mask = pad(rows)
    (p,) = ort.InferenceSession(model).run(["probability"], {"ids": ids, "mask": mask})
    expected = 1 / (1 + np.exp(-words.logits(count_words(rows, VOCABULARY))))
    np.testing.assert_allclose(np.asarray(p), expected, atol=1e-5)


def test_the_order_of_two_words_can_decide():
    rows = [[2, 3, 4] if i % 2 else [3, 2, 4] for i in range(80)]
    words = fit_words(count_words(rows, 5), Targets.of(labelled([bool(i % 2) for i in range(80)])), lambda: None)
    first, second = words.logits(count_words([[2, 3, 4], [3, 2, 4]], 5))[:, 0]
    assert first > 0 > second


def test_a_pair_that_few_texts_have_decides_nothing():
    rows = [[2, 3, 4] if i % 20 == 0 else [3, 2, 4] for i in range(80)]
    words = fit_words(count_words(rows, 5), Targets.of(labelled([i % 20 == 0 for i in range(80)])), lambda: None)
    rare = (count_words([[2, 3, 4]], 5) - count_words([[3, 2, 4]], 5)).toarray()[0, 5:] > 0
    assert rare.sum() == 2
    assert not words.weights[5:][rare].any()
