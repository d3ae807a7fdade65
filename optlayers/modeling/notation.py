"""How mathematics is written: as Unicode text, and as LaTeX.

A `Piece` remembers how tightly it is bound, so that parentheses stand only where they
are needed. The LaTeX keeps to what matplotlib's mathtext reads too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Binding(IntEnum):
    """How tightly the outermost operation of a piece binds."""

    SUM = 0
    PREFIX = 1  # a minus or a sum sign in front
    QUOTIENT = 2
    ENTRYWISE = 3
    PRODUCT = 4
    SUPERSCRIPT = 5
    ATOM = 6


@dataclass(frozen=True)
class Piece:
    """A written formula.

    Attributes:
        text: as it is written.
        binding: of its outermost operation.
    """

    text: str
    binding: Binding = Binding.ATOM


class Notation(Protocol):
    """One way to write formulas."""

    minus: str
    dot: str
    entrywise: str
    kronecker: str
    at_most: str
    below: str
    above: str
    element_of: str
    becomes: str
    gap: str
    ellipsis: str
    eigenvalue: str

    def name(self, name: str) -> str:
        """A name of the user's."""
        ...

    def word(self, word: str) -> str:
        """A word in upright letters."""
        ...

    def number(self, value: float) -> str:
        """A value in six digits or fewer, infinities and powers of ten included."""
        ...

    def grouped(self, text: str) -> str:
        """In parentheses."""
        ...

    def superscript(self, base: str, raised: str) -> str:
        """A base with something raised."""
        ...

    def subscript(self, base: str, lowered: str) -> str:
        """A base with something lowered."""
        ...

    def transposed(self, base: str) -> str:
        """The transpose."""
        ...

    def norm(self, inner: str, kind: str) -> str:
        """Norm bars with a subscript."""
        ...

    def fenced(self, left: str, inner: str, right: str) -> str:
        """Inside a pair of fences: |, [, ⟨."""
        ...

    def quotient(self, above: Piece, below: Piece) -> Piece:
        """One thing over another."""
        ...

    def root(self, inner: Piece) -> Piece:
        """A square root."""
        ...

    def derivative(self, name: str, time: str) -> Piece:
        """The rate at which something named changes in time."""
        ...

    def sum_sign(self, first: str, last: str) -> str:
        """The sum over k from first to last."""
        ...

    def ones(self) -> str:
        """The vector of ones."""
        ...

    def product(self, sizes: Iterable[str]) -> str:
        """Sizes with crosses between."""
        ...

    def space(self, kind: str, sizes: Sequence[str], mark: str) -> str:
        """A set such as the m by n matrices; kind R or S, mark + or - or none."""
        ...

    def cone(self, name: str) -> str:
        """The cone of that name."""
        ...


class TextNotation:
    """Unicode, for terminals."""

    minus, dot, entrywise, kronecker = "−", "·", "∘", "⊗"
    at_most, element_of, ellipsis, eigenvalue = "≤", "∈", "…", "λ"
    below, above, becomes, gap = "⪯", "⪰", "←", " "

    def name(self, name: str) -> str:
        """A name of the user's, as it is."""
        return name

    def word(self, word: str) -> str:
        """A word, as it is."""
        return word

    def number(self, value: float) -> str:
        """A number, with a proper minus sign."""
        if value in (float("inf"), float("-inf")):
            return "∞" if value > 0 else "−∞"
        digits, _, power = f"{value:g}".replace("-", "−").partition("e")
        if not power:
            return digits
        ten = self.superscript("10", str(int(power.replace("−", "-"))))
        return ten if digits == "1" else f"{digits}·{ten}"

    def grouped(self, text: str) -> str:
        """In parentheses."""
        return f"({text})"

    def superscript(self, base: str, raised: str) -> str:
        """Raised letters where Unicode has them, else a caret."""
        letters = _translated(raised, _RAISED)
        if letters is not None:
            return base + letters
        return f"{base}^{raised}" if _is_one_word(raised) else f"{base}^({raised})"

    def subscript(self, base: str, lowered: str) -> str:
        """Lowered letters where Unicode has them, else an underscore."""
        letters = _translated(lowered, _LOWERED)
        if letters is not None:
            return base + letters
        return f"{base}_{lowered}" if _is_one_word(lowered) else f"{base}_{{{lowered}}}"

    def transposed(self, base: str) -> str:
        """A raised T."""
        return f"{base}ᵀ"

    def norm(self, inner: str, kind: str) -> str:
        """Double bars."""
        return self.subscript(f"‖{inner}‖", kind)

    def fenced(self, left: str, inner: str, right: str) -> str:
        """As it is."""
        return f"{left}{inner}{right}"

    def quotient(self, above: Piece, below: Piece) -> Piece:
        """With a slash."""
        top = above.text if above.binding >= Binding.QUOTIENT else f"({above.text})"
        tight = below.binding >= Binding.SUPERSCRIPT
        bottom = below.text if tight else f"({below.text})"
        return Piece(f"{top} / {bottom}", Binding.QUOTIENT)

    def root(self, inner: Piece) -> Piece:
        """With a root sign."""
        tight = inner.binding is Binding.ATOM and not inner.text.startswith("‖")
        return Piece(f"√{inner.text}" if tight else f"√({inner.text})")

    def derivative(self, name: str, time: str) -> Piece:
        """With a slash."""
        return Piece(f"d{name}/d{time}", Binding.QUOTIENT)

    def sum_sign(self, first: str, last: str) -> str:
        """With its limits lowered and raised."""
        lower = _translated(f"k={first}", _LOWERED)
        upper = _translated(last, _RAISED)
        if lower is None or upper is None:
            return f"Σ_(k={first}…{last})"
        return f"Σ{lower}{upper}"

    def ones(self) -> str:
        """A bold one."""
        return "𝟏"

    def product(self, sizes: Iterable[str]) -> str:
        """With crosses."""
        return "×".join(sizes)

    def space(self, kind: str, sizes: Sequence[str], mark: str) -> str:
        """Double-struck, sizes raised."""
        letter = {"R": "ℝ", "S": "𝕊"}[kind]
        base = letter if not sizes else self.superscript(letter, self.product(sizes))
        return base + {"": "", "+": "₊", "-": "₋"}[mark]

    def cone(self, name: str) -> str:
        """A script letter, the name lowered."""
        return f"𝒦_{name}"


class LatexNotation:
    """LaTeX, for notebooks and papers."""

    minus, dot, entrywise, kronecker = "-", r"\cdot", r"\odot", r"\otimes"
    at_most, element_of, ellipsis = r"\leq", r"\in", r"\ldots"
    below, above, becomes, gap = r"\preceq", r"\succeq", r"\leftarrow", "\\ "
    eigenvalue = r"\lambda"

    def name(self, name: str) -> str:
        """Greek names as letters; `x_ref` with a subscript; words upright."""
        base, _, rest = name.strip("_").partition("_")
        if base in _GREEK:
            letter = rf"\{base}"
        elif len(base) == 1:
            letter = base
        else:
            return self.word(name)
        if not rest:
            return letter
        return f"{letter}_{{{self.word(rest) if len(rest) > 1 else rest}}}"

    def word(self, word: str) -> str:
        """Upright."""
        escaped = word.replace("_", r"\_").replace(" ", r"\ ")
        return rf"\mathrm{{{escaped}}}"

    def number(self, value: float) -> str:
        """A number; powers of ten written out."""
        if value in (float("inf"), float("-inf")):
            return r"\infty" if value > 0 else r"-\infty"
        digits, _, power = f"{value:g}".partition("e")
        if not power:
            return digits
        ten = rf"10^{{{int(power)}}}"
        return ten if digits == "1" else rf"{digits} \cdot {ten}"

    def grouped(self, text: str) -> str:
        """In parentheses that grow."""
        return rf"\left({text}\right)"

    def superscript(self, base: str, raised: str) -> str:
        """Raised."""
        return f"{base}^{{{raised}}}"

    def subscript(self, base: str, lowered: str) -> str:
        """Lowered."""
        return f"{base}_{{{lowered}}}"

    def transposed(self, base: str) -> str:
        """A raised top."""
        return rf"{base}^{{\top}}"

    def norm(self, inner: str, kind: str) -> str:
        """Double bars."""
        kind = {"∞": r"\infty", "*": r"\ast"}.get(kind, kind)
        return rf"\left\| {inner} \right\|_{{{kind}}}"

    def fenced(self, left: str, inner: str, right: str) -> str:
        """Fences that grow."""
        fences = {"⟨": r"\langle", "⟩": r"\rangle", "{": r"\{", "}": r"\}"}
        left, right = fences.get(left, left), fences.get(right, right)
        return rf"\left{left} {inner} \right{right}"

    def quotient(self, above: Piece, below: Piece) -> Piece:
        """A fraction."""
        return Piece(rf"\frac{{{above.text}}}{{{below.text}}}", Binding.PRODUCT)

    def root(self, inner: Piece) -> Piece:
        """A root sign over all of it."""
        return Piece(rf"\sqrt{{{inner.text}}}")

    def derivative(self, name: str, time: str) -> Piece:
        """A fraction, its d upright."""
        upright = self.word("d")
        return Piece(rf"\frac{{{upright} {name}}}{{{upright} {time}}}")

    def sum_sign(self, first: str, last: str) -> str:
        """With its limits below and above."""
        return rf"\sum_{{k={first}}}^{{{last}}}"

    def ones(self) -> str:
        """A bold one."""
        return r"\mathbf{1}"

    def product(self, sizes: Iterable[str]) -> str:
        """With crosses."""
        return r" \times ".join(sizes)

    def space(self, kind: str, sizes: Sequence[str], mark: str) -> str:
        """Double-struck, sizes raised."""
        base = rf"\mathbb{{{kind}}}"
        if sizes:
            base = self.superscript(base, self.product(sizes))
        return f"{base}_{{{mark}}}" if mark else base

    def cone(self, name: str) -> str:
        """A script letter, the name lowered."""
        return rf"\mathcal{{K}}_{{{self.word(name)}}}"


_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho "
    "sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon "
    "Phi Psi Omega".split()
)

_RAISED = dict(
    zip(
        "0123456789+-−=()×abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ˣᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ",
        strict=True,
    )
)
_LOWERED = dict(
    zip(
        "0123456789+-−=()aehijklmnoprstuvx",
        "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ",
        strict=True,
    )
)


def _translated(text: str, letters: dict[str, str]) -> str | None:
    if all(letter in letters for letter in text):
        return "".join(letters[letter] for letter in text)
    return None


def _is_one_word(text: str) -> bool:
    return text.isalnum() or len(text) == 1 or text.replace(".", "").isdigit()
