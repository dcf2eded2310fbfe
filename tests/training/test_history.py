"""The history of weights."""

import hashlib
import json

import pytest

from srgan_tf.errors import UserError
from srgan_tf.training.history import ancestry, read_history

DIGEST = hashlib.sha256(b"weights").hexdigest()
CARD = {"name": "a", "phase": "gan-2", "steps": 3, "recipe": {}, "validation": {"psnr": 30}}
GRANDPARENT = {"sha256": "abc", "name": "older"}
OF_CARD = {key: CARD[key] for key in ("name", "phase", "steps", "recipe")}


@pytest.mark.parametrize(
    ("weights", "card"), [("generator.keras", "card.json"), ("a.keras", "a.json")]
)
def test_the_card_beside_weights_has_their_ancestry(weights, card, tmp_path):
    (tmp_path / weights).write_bytes(b"weights")
    assert ancestry(tmp_path / weights) == [{"sha256": DIGEST}]
    (tmp_path / card).write_text(json.dumps(CARD))
    assert ancestry(tmp_path / weights) == [{"sha256": DIGEST, **OF_CARD}]
    (tmp_path / card).write_text(json.dumps({**CARD, "sha256": DIGEST, "parents": [GRANDPARENT]}))
    assert ancestry(tmp_path / weights) == [GRANDPARENT, {"sha256": DIGEST, **OF_CARD}]


@pytest.mark.parametrize("card", [json.dumps({**CARD, "sha256": "other"}), "{", "[]"])
def test_a_card_of_other_weights_does_not_count(card, tmp_path):
    (tmp_path / "a.keras").write_bytes(b"weights")
    (tmp_path / "a.json").write_text(card)
    assert ancestry(tmp_path / "a.keras") == [{"sha256": DIGEST}]


def test_a_run_of_an_earlier_version_has_no_history(tmp_path):
    assert read_history(tmp_path) == {"sessions": []}


def test_a_damaged_history_is_named(tmp_path):
    (tmp_path / "history.json").write_text("{")
    with pytest.raises(UserError, match=r"history\.json: damaged .* delete it to continue"):
        read_history(tmp_path)
