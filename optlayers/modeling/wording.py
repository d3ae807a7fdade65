"""Words that messages of every room are made of."""


def counted(count: int, word: str) -> str:
    """A number of things: "1 row", "3 rows", "2 inequalities"."""
    if count == 1:
        return f"1 {word}"
    return f"{count} {word.removesuffix('y')}{'ies' if word.endswith('y') else 's'}"
