"""docs/privacy.md says what the code does."""

from __future__ import annotations

import profile_table

from recond_client.privacy.profile import Action
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1


def test_the_table_is_that_of_the_code() -> None:
    assert profile_table.markdown() in profile_table.PAGE.read_text(encoding="utf-8"), (
        "run python tests/support/profile_table.py"
    )


def test_every_action_and_the_name_are_explained() -> None:
    page = profile_table.PAGE.read_text(encoding="utf-8")
    assert f"`{RECOND_MRD_1.name}`" in page
    for action in Action:
        assert f"**{action.letter}**" in page
