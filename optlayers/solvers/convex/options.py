"""Checks of solver options, at construction."""


def check_positive(owner: str, **options: float) -> None:
    """Raise unless every option is a positive number.

    Raises:
        ValueError: one is not; names the solver, the option and the value.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{owner}({name}={value!r}): give a number above zero.")
        if not value > 0:
            raise ValueError(f"{owner}({name}={value!r}): give a number above zero.")
