"""The OpenAPI document of the API, for the snapshot in docs/openapi.json."""

import json
import sys
from pathlib import Path
from typing import Any

from app.config import Settings
from app.main import create_app

SNAPSHOT = Path(__file__).parent.parent / "docs" / "openapi.json"


def document() -> dict[str, Any]:
    """Return what GET /openapi.json answers; nothing is connected to."""
    url = "postgresql+psycopg://nobody@localhost/none"
    settings = Settings(database_url=url, redis_url="redis://localhost:1")
    return create_app(settings).openapi()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document(), indent=1, sort_keys=True) + "\n")
