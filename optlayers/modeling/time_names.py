"""Names that the call and the result of a differential equation use themselves."""

from collections.abc import Mapping

from optlayers.errors import DeclarationError
from optlayers.modeling.fields import Field, Role

SAVE_TIMES = "times"
_RESULTS = ("at", "events")


def check_names(place: str, fields: Mapping[str, Field]) -> None:
    """Refuse names that the call and the result of a differential equation use.

    Args:
        place: where the declaration stands.
        fields: its fields, sizes still by name.

    Raises:
        DeclarationError: two Time fields, or a name that means something else.
    """
    times = [name for name, one in fields.items() if one.role is Role.TIME]
    if len(times) > 1:
        raise DeclarationError(
            f"{place}: {' and '.join(times)} are both Time(); there is one time. "
            "Declare the others as Parameters."
        )
    for name, one in fields.items():
        is_result = name in _RESULTS
        if is_result or (name == SAVE_TIMES and one.role is not Role.TIME):
            raise DeclarationError(_reserved(place, f"the field {name}={one.text}"))
        if SAVE_TIMES in one.dimension_names and not times:
            what = f"the dimension {SAVE_TIMES!r} of {name}={one.text}"
            raise DeclarationError(_reserved(place, what))


def _reserved(place: str, what: str) -> str:
    return (
        f"{place}: {what} takes a reserved name; a differential equation is called "
        f"with {SAVE_TIMES}= and answers with {' and '.join(_RESULTS)}. Rename it."
    )
