import numpy as np

from models.calibration import decision_threshold, f1, trusted
from models.distil_rows import Rows


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_threshold_takes_in_all_positives_where_they_stand_apart():
    p, q = floats(0.9, 0.1, 0.8, 0.2), floats(1, 0, 1, 0)
    assert decision_threshold(p, q, np.ones_like(p)) == np.float32(0.8)


def test_one_lucky_positive_far_above_does_not_set_the_threshold():
    p = np.concatenate([floats(0.95), np.full(400, 0.45, np.float32), np.full(600, 0.02, np.float32)])
    q = np.concatenate([floats(1), (np.arange(400) % 9 < 4), np.zeros(600)]).astype(np.float32)
    assert decision_threshold(p, q, np.ones_like(p)) <= 0.45


def test_a_text_without_weight_has_no_say():
    p, q = floats(0.9, 0.8, 0.7, 0.6), floats(1, 1, 0, 0)
    assert decision_threshold(p, 1 - q, floats(0, 0, 1, 1)) == np.float32(0.6)
    rows = Rows([""] * 4, q[:, None], floats(1, 1, 0, 0)[:, None], np.ones((4, 1), np.bool_))
    assert f1(p[:, None], floats(0.5), rows).tolist() == [1.0]


def test_golden_labels_calibrate_alone_only_where_there_are_enough_of_them():
    n = 1_000
    golden = np.zeros((n, 2), np.bool_)
    golden[:400, 0], golden[:20, 1] = True, True
    q = np.tile(floats(1, 0, 0, 0), n // 4)[:, None] * np.ones((1, 2), np.float32)
    weight = trusted(Rows([""] * n, q, np.ones_like(q), golden))
    assert weight.sum(axis=0).tolist() == [400, n]
