"""Pictures of a lesson: learning curve, learned dynamics, phase portrait, animation."""

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from optlayers.demo.cartpole import (
    LONGEST,
    Controller,
    Lesson,
    linearize,
    roll_out,
)

START, LEARNED, TRUTH = "#b8442f", "#1f6f8b", "#222222"
_TITLES = ("before", "after")
STATES = ("position", "speed", "angle", "spin")
FALLEN = np.deg2rad(12)  # where CartPole-v1 ends an episode
POLE, EDGE = 1.0, 2.4  # length of the pole and end of the track, metres
PERIOD = 0.02  # seconds per step of the plant


def draw_all(lesson: Lesson, folder: Path) -> list[Path]:
    """Write every picture of a lesson into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [
        draw_learning(lesson, folder / "learning.png"),
        draw_dynamics(lesson, folder / "dynamics.png"),
        draw_portrait(lesson, folder / "portrait.png"),
        draw_strips(lesson, folder / "pole.png"),
        animate(lesson, folder / "pole.gif"),
    ]
    return paths


def draw_learning(lesson: Lesson, path: Path) -> Path:
    """Both losses by update, and how long episodes last."""
    figure = _figure(9, 3.4)
    losses, lengths = figure.subplots(1, 2, width_ratios=(3, 2))
    updates = np.arange(1, len(lesson.imitation) + 1)
    losses.semilogy(
        updates, lesson.imitation, color=LEARNED, label="imitation, through the QP"
    )
    losses.semilogy(
        updates, lesson.prediction, color=START, label="one-step prediction"
    )
    for edge in np.linspace(0, len(updates), len(lesson.visits) + 1)[1:-1]:
        losses.axvline(edge + 0.5, color="0.85", linewidth=1, zorder=0)
    losses.set(xlabel="update (a line: new steps of the plant)", ylabel="loss")
    losses.legend(frameon=False)

    means = (lesson.before.lengths.mean(), lesson.after.lengths.mean())
    bars = lengths.bar(_TITLES, means, 0.6, color=(START, LEARNED))
    lengths.bar_label(bars, fmt="%.0f", padding=2)
    lengths.axhline(LONGEST, color=TRUTH, linestyle=":", linewidth=1)
    seeds = len(lesson.before.lengths)
    lengths.set(ylim=(0, 1.12 * LONGEST), ylabel=f"mean steps of {seeds} episodes")
    return _save(figure, path)


def draw_dynamics(lesson: Lesson, path: Path) -> Path:
    """Entries of A - I and B: at the start, learned, and linearized."""
    figure = _figure(9, 3.4)
    axes = figure.subplots()
    learned = lesson.controller.plan.bound()
    true_A, true_B = linearize()
    entries = [
        _entries(lesson.beginning["A"].numpy(), lesson.beginning["B"].numpy()),
        _entries(learned["A"].detach().numpy(), learned["B"].detach().numpy()),
        _entries(true_A, true_B),
    ]
    places = np.arange(len(entries[0]))
    axes.axhline(0, color="0.85", linewidth=1, zorder=0)
    axes.vlines(places, entries[0], entries[1], color="0.75", linewidth=1, zorder=1)
    axes.scatter(
        places, entries[2], 150, TRUTH, marker="_", label="linearized", zorder=2
    )
    axes.scatter(places, entries[0], 22, START, label="at the start", zorder=3)
    axes.scatter(places, entries[1], 34, LEARNED, label="learned", zorder=4)
    for edge in (3.5, 7.5, 11.5, 15.5):
        axes.axvline(edge, color="0.9", linewidth=1, zorder=0)
    columns = [name for name in STATES for _ in STATES] + ["force"] * 4
    labels = [STATES[place % 4] for place in places]
    axes.set_xticks(places, labels, rotation=60, ha="right", fontsize=8)
    for place in (1.5, 5.5, 9.5, 13.5, 17.5):
        axes.text(place, 0.42, f"effect of {columns[int(place)]} on", ha="center")
    axes.set(ylim=(-0.38, 0.5), ylabel="entry of A − I or B", xlim=(-0.7, 19.7))
    axes.legend(frameon=False, ncols=3, loc="lower left")
    return _save(figure, path)


def _entries(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    return np.concatenate([A - np.eye(4), B], axis=1).T.ravel()


def draw_portrait(lesson: Lesson, path: Path) -> Path:
    """Angle against spin of every examined episode, before and after."""
    figure = _figure(9, 3.6)
    for axes, rollout, color, title in zip(
        figure.subplots(1, 2, sharey=True),
        (lesson.before, lesson.after),
        (START, LEARNED),
        _TITLES,
        strict=True,
    ):
        for states in rollout.paths:
            axes.plot(np.rad2deg(states[:, 2]), states[:, 3], color=color, alpha=0.3)
            axes.plot(*_end(states), "o", color=color, markersize=3)
        for side in (-1, 1):
            axes.axvline(side * 12, color=TRUTH, linestyle=":", linewidth=1)
        mean = rollout.lengths.mean()
        axes.set(title=f"{title}: {mean:.0f} of {LONGEST} steps", xlabel="angle [°]")
        axes.set_xlim(-16, 16)
    figure.axes[0].set_ylabel("spin [rad/s]")
    return _save(figure, path)


def _end(states: np.ndarray) -> tuple[float, float]:
    return float(np.rad2deg(states[-1, 2])), float(states[-1, 3])


# ---- the pole -----------------------------------------------------------------------


def draw_strips(lesson: Lesson, path: Path) -> Path:
    """Stills of one episode before and one after, time to the right."""
    figure = _figure(9, 3.4)
    for row, rollout, title in zip(
        figure.subplots(2, 6), (lesson.before, lesson.after), _TITLES, strict=True
    ):
        states = rollout.paths[int(rollout.lengths.argmax())]
        moments = np.linspace(0, len(states) - 1, len(row)).astype(int)
        for axes, moment in zip(row, moments, strict=True):
            picture = _Picture(axes, title if moment == 0 else "", half_width=1.0)
            picture.show(states[moment], f"{moment * PERIOD:.2f} s")
    return _save(figure, path)


def animate(lesson: Lesson, path: Path, seconds: float = 5.0) -> Path:
    """Both controllers from wider starts; the untrained one begins anew when it falls.

    Args:
        lesson: what was learned.
        path: a GIF file.
        seconds: length of the film, in the plant's own time.
    """
    steps, stride = int(seconds / PERIOD), 2
    untrained = _Attempts(_untrained(lesson), steps)
    trained = _Attempts(lesson.controller, steps)
    # A constrained layout would be solved anew for every frame.
    figure = _figure(6.4, 2.5, dpi=75, layout=None)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.95, wspace=0.04)
    pictures = [
        _Picture(axes, title)
        for axes, title in zip(figure.subplots(1, 2), _TITLES, strict=True)
    ]

    def show(frame: int) -> list:
        for picture, attempts in zip(pictures, (untrained, trained), strict=True):
            state, falls = attempts.at(frame * stride)
            picture.show(state, f"{falls} falls in {frame * stride * PERIOD:.1f} s")
        return []

    film = FuncAnimation(figure, show, frames=steps // stride, cache_frame_data=False)
    film.save(path, writer=PillowWriter(fps=round(1 / (PERIOD * stride))))
    return path


class _Attempts:
    """One episode after another until there are enough steps for the film."""

    def __init__(self, controller: Controller, steps: int) -> None:
        self.states: list[np.ndarray] = []
        self.falls: list[int] = []
        attempt = 0
        while len(self.states) < steps:
            rollout = roll_out(controller, [attempt], steps, spread=0.15)
            self.states.extend(rollout.paths[0])
            self.falls.extend([attempt] * len(rollout.paths[0]))
            attempt += 1

    def at(self, moment: int) -> tuple[np.ndarray, int]:
        """State and number of falls so far."""
        return self.states[moment], self.falls[moment]


class _Picture:
    """A cart with its pole on one pair of axes."""

    def __init__(self, axes: Axes, title: str, half_width: float = EDGE) -> None:
        axes.set(xlim=(-half_width, half_width), ylim=(-0.45, 1.35), aspect="equal")
        axes.set_title(title, fontsize=10)
        axes.axis("off")
        axes.axhline(0, color="0.6", linewidth=1, zorder=0)
        self.cart = Rectangle((0, -0.15), 0.6, 0.3, facecolor="0.25")
        self.pole = Line2D([], [], linewidth=4, solid_capstyle="round")
        self.note = axes.text(0, -0.42, "", ha="center", fontsize=8, color="0.35")
        axes.add_patch(self.cart)
        axes.add_line(self.pole)

    def show(self, state: np.ndarray, note: str) -> None:
        """Draw one state [4]: position, speed, angle, spin."""
        position, _, angle, _ = state
        self.cart.set_x(position - 0.3)
        self.pole.set_data(
            [position, position + POLE * np.sin(angle)],
            [0.1, 0.1 + POLE * np.cos(angle)],
        )
        self.pole.set_color(START if abs(angle) > FALLEN else LEARNED)
        self.note.set_text(note)


def _untrained(lesson: Lesson) -> Controller:
    controller = Controller()
    assert all(
        value.equal(lesson.beginning[name])
        for name, value in controller.plan.bound().items()
    )
    return controller


def _figure(
    width: float,
    height: float,
    dpi: int = 110,
    layout: Literal["constrained"] | None = "constrained",
) -> Figure:
    figure = Figure((width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return path
