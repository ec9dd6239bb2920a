"""Options of plug-ins: do they obey the JSON Schema that the plug-in states?"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from croniter import CroniterError, croniter
from jsonschema import Draft202012Validator, FormatChecker

from app.domain.errors import Fault

_FORMATS: Final = FormatChecker(formats=())


def option_faults(
    schema: Mapping[str, Any], options: Mapping[str, Any], pointer: str
) -> list[Fault]:
    """Return where options break their JSON Schema."""
    return [
        Fault("/".join([pointer, *(str(part) for part in error.absolute_path)]), error.message)
        for error in Draft202012Validator(schema, format_checker=_FORMATS).iter_errors(
            dict(options)
        )
    ]


@_FORMATS.checks("cron")
def _is_cron(value: object) -> bool:
    """Tell whether a text is a cron expression of five fields that ever comes due."""
    if not isinstance(value, str):
        return True
    try:
        croniter(value, datetime.now(UTC)).get_next(datetime)
    except (CroniterError, ValueError):
        return False
    return len(value.split()) == 5
