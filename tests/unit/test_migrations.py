"""The schema's history has one head."""

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory


def test_there_is_a_single_head():
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
