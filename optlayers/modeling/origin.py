"""Where an expression was written: file, line and source text, looked up lazily.

Recording costs one walk up the stack; the source is read only for messages.
"""

import ast
import linecache
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, TracebackType
from typing import Any

import numpy as np
import torch

_INTERNAL = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.dirname(os.path.abspath(torch.__file__)) + os.sep,
    os.path.dirname(os.path.abspath(np.__file__)) + os.sep,
)


@dataclass(frozen=True, eq=False, slots=True)
class Origin:
    """The instruction of the user's code that built something.

    Attributes:
        code: the code object that was running; None where nothing was.
        instruction: offset of the instruction in `code`, in bytes.
        quotation: what it was built from, if not from code.
    """

    code: CodeType | None
    instruction: int
    quotation: "Quotation | None" = None

    @classmethod
    def here(cls) -> "Origin":
        """The innermost running frame that is the user's own."""
        quotation = _quotation.get()
        if quotation is not None:
            return cls(None, 0, quotation)
        frame = sys._getframe(1)
        while frame is not None:
            if not frame.f_code.co_filename.startswith(_INTERNAL):
                return cls(frame.f_code, frame.f_lasti)
            frame = frame.f_back
        return NOWHERE

    @classmethod
    def of(cls, traceback: TracebackType | None) -> "Origin":
        """The innermost frame of an error that is the user's own."""
        found = NOWHERE
        while traceback is not None:
            code = traceback.tb_frame.f_code
            if not code.co_filename.startswith(_INTERNAL):
                found = cls(code, traceback.tb_lasti)
            traceback = traceback.tb_next
        return found

    @property
    def file(self) -> str:
        """Base name of the source file."""
        if self.code is None:
            return "<unknown>"
        return os.path.basename(self.code.co_filename)

    @property
    def path(self) -> str:
        """The source file."""
        return "<unknown>" if self.code is None else self.code.co_filename

    @property
    def line(self) -> int:
        """First line of the subexpression, counted from 1."""
        return self._span()[0]

    @property
    def place(self) -> str:
        """`file:line`, as error messages begin."""
        if self.quotation is not None:
            return self.quotation.place
        return f"{self.file}:{self.line}"

    @property
    def declaration_place(self) -> str:
        """`file:line` of the `def` line of the code."""
        line = 0 if self.code is None else self.code.co_firstlineno
        return f"{self.file}:{line}"

    @property
    def text(self) -> str:
        """Source of the subexpression on one line; empty where there is none."""
        if self.quotation is not None:
            return _squeeze(str(self.quotation.source))
        return _squeeze(_segment(self._path(), *self._span()))

    @property
    def context(self) -> str:
        """Source of the keyword argument around it (`inside=A @ x <= b`), or `text`."""
        node = self.keyword
        if node is None:
            return self.text
        return f"{node.arg}={_squeeze(_source_of(self._path(), node.value))}"

    @property
    def keyword(self) -> ast.keyword | None:
        """The innermost keyword argument whose value holds the subexpression."""
        found = None
        for node in self.enclosing():
            if isinstance(node, ast.keyword) and node.arg is not None:
                found = node
        return found

    @property
    def node(self) -> ast.AST | None:
        """The syntax node of the subexpression, or None where source is missing."""
        span = self._span()
        for node in reversed(self.enclosing()):
            if _span_of(node) == span:
                return node
        return None

    def source(self, node: ast.AST) -> str:
        """Source text of a node of this file, on one line."""
        return _squeeze(_source_of(self._path(), node))

    def enclosing(self) -> list[ast.AST]:
        """The syntax nodes around the subexpression, outermost first."""
        start_line, end_line, start, end = self._span()
        if start is None:
            return []
        found: list[ast.AST] = []
        _descend(_tree(self._path()), (start_line, start), (end_line, end), found)
        return found

    def _path(self) -> str:
        return "" if self.code is None else self.code.co_filename

    def _span(self) -> tuple[int, int, int | None, int | None]:
        """(line, end line, column, end column), columns in bytes or None."""
        if self.code is None:
            return (0, 0, None, None)
        return _position(self.code, self.instruction)

    def __reduce__(self):
        # Code objects do not pickle; whatever is sent elsewhere loses its place.
        return (Origin, (None, 0))


@dataclass(frozen=True, eq=False, slots=True)
class Quotation:
    """Something other than code that expressions are built from.

    Attributes:
        place: what messages say in the place of `file:line`.
        source: what is quoted there; its `str` is read only for messages.
    """

    place: str
    source: object


@contextmanager
def quoting(place: str, source: object) -> Iterator[None]:
    """Let everything built inside speak of `source` rather than of the code that runs.

    Args:
        place: what messages say in the place of `file:line`.
        source: what they quote; its `str` is read only for messages.
    """
    token = _quotation.set(Quotation(place, source))
    try:
        yield
    finally:
        _quotation.reset(token)


_quotation: ContextVar[Quotation | None] = ContextVar("quotation", default=None)

NOWHERE = Origin(None, 0)


def _position(code: CodeType, instruction: int):
    line, end_line, start, end = list(code.co_positions())[instruction // 2]
    line = line or code.co_firstlineno
    return (line, end_line or line, start, end)


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _segment(path: str, line: int, end_line: int, start, end) -> str:
    lines = linecache.getlines(path)[line - 1 : end_line]
    if not lines:
        return ""
    if start is None or end is None:
        return "".join(lines)
    encoded = [one.encode() for one in lines]
    encoded[-1] = encoded[-1][:end]
    encoded[0] = encoded[0][start:]
    return b"".join(encoded).decode(errors="replace")


def _span_of(node: Any) -> tuple[int, int, int, int]:
    return (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


def _source_of(path: str, node: ast.AST) -> str:
    return _segment(path, *_span_of(node))


def _tree(path: str) -> ast.AST:
    return _parse("".join(linecache.getlines(path)))


@lru_cache(maxsize=16)
def _parse(source: str) -> ast.AST:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _descend(node: Any, start, end, found: list[ast.AST]) -> None:
    child: Any
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr | ast.stmt | ast.keyword | ast.arg):
            _descend(child, start, end, found)
            continue
        first = (child.lineno, child.col_offset)
        last = (child.end_lineno, child.end_col_offset)
        if first <= start and end <= last:
            found.append(child)
            _descend(child, start, end, found)
            return
