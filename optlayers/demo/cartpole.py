"""Balance gymnasium's CartPole with a controller learned through a convex program.

The controller plans with x+ = A x + B u and pushes the way its plan begins. It knows
neither A, B nor the weights q, r: all four are learned by gradients through the plan.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import gymnasium
import numpy as np
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from scipy.linalg import solve_discrete_are
from torch import Tensor, nn

import optlayers as ol
from optlayers import Control, Parameter, State, minimize

LONGEST = 500  # steps after which CartPole-v1 ends an episode


# ---- 1. the declaration: plan 20 steps ahead with a bounded force -------------------


@ol.problem
def mpc(
    x=State("n"),
    u=Control("m", lower=-1, upper=1),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    q=Parameter("n", nonneg=True),
    r=Parameter("m", nonneg=True),
):
    """Steer a linear system to the origin within a bounded force."""
    return minimize(
        ol.total(q @ x**2 + r @ u**2) + 10 * ol.sum_squares(x.last),
        start=x.first == x0,
        dynamics=x.next == A @ x + B @ u,
    )


# ---- 2. the torch model that ends in it ---------------------------------------------


class Controller(nn.Module):
    """Observes the state and returns the first force of the plan, in [-1, 1].

    It starts wrong: A says that nothing ever moves, B that pushing right goes left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan = mpc.layer(
            steps=20,
            A=nn.Parameter(torch.eye(4)),
            B=nn.Parameter(torch.tensor([[0.0], [-0.1], [0.0], [0.1]])),
            q=nn.Parameter(torch.ones(4)),
            r=nn.Parameter(torch.ones(1)),
            # While a learned A is unstable a plan may fail: skip it, keep learning.
            on_failure="keep",
        )

    def forward(self, state: Tensor) -> Tensor:
        """First planned force, [*batch], at states [*batch, 4]."""
        return self.plan(x0=state).u[..., 0, 0]

    def predict(self, state: Tensor, force: Tensor) -> Tensor:
        """Next state [*batch, 4] by the learned model."""
        known = self.plan.bound()
        return state @ known["A"].mT + force[..., None] @ known["B"].mT


# ---- 3. the plant, and the expert to imitate ----------------------------------------


@dataclass
class Steps:
    """Steps of the plant: states [N, 4], forces [N] and next states [N, 4]."""

    states: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    forces: Tensor = field(default_factory=lambda: torch.zeros(0))
    following: Tensor = field(default_factory=lambda: torch.zeros(0, 4))

    def __add__(self, other: "Steps") -> "Steps":
        return Steps(
            torch.cat([self.states, other.states]),
            torch.cat([self.forces, other.forces]),
            torch.cat([self.following, other.following]),
        )


@dataclass
class Rollout:
    """Episodes: how long each lasted, int [carts], and every step of theirs."""

    lengths: np.ndarray
    steps: Steps
    paths: list[np.ndarray]


@torch.no_grad()
def roll_out(
    policy: Callable[[Tensor], Tensor],
    seeds: Iterable[int],
    longest: int = LONGEST,
    explore: float = 0.0,
    spread: float = 0.05,
) -> Rollout:
    """Run CartPole-v1 once for each seed, pushing by the sign of the policy's force.

    Args:
        policy: from states [carts, 4] to forces [carts].
        seeds: one for each cart.
        longest: stop an episode after so many steps.
        explore: share of the pushes that are drawn at random.
        spread: bound of the random start.
    """
    seeds = list(seeds)
    carts = [gymnasium.make("CartPole-v1") for _ in seeds]
    bounds = {"low": -spread, "high": spread}
    paths = [
        [cart.reset(seed=seed, options=bounds)[0]]
        for cart, seed in zip(carts, seeds, strict=True)
    ]
    random = np.random.default_rng(seeds)
    states, forces, following = [], [], []
    running = list(range(len(carts)))
    for _ in range(longest):
        if not running:
            break
        now = torch.from_numpy(np.stack([paths[cart][-1] for cart in running]))
        right = policy(now).numpy() > 0
        astray = random.random(len(running)) < explore
        right = np.where(astray, random.random(len(running)) < 0.5, right)
        for cart, push in zip(tuple(running), right, strict=True):
            after, _, fell, timed_out, _ = carts[cart].step(int(push))
            states.append(paths[cart][-1])
            forces.append(1.0 if push else -1.0)
            following.append(after)
            paths[cart].append(after)
            if fell or timed_out:
                running.remove(cart)
    for cart in carts:
        cart.close()
    steps = Steps(
        torch.from_numpy(np.stack(states)),
        torch.tensor(forces),
        torch.from_numpy(np.stack(following)),
    )
    lengths = np.array([len(path) - 1 for path in paths])
    return Rollout(lengths, steps, [np.stack(path) for path in paths])


def linearize(step: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """A [4, 4] and B [4, 1] of the plant at rest, by central differences of its step.

    The plant only knows full pushes, so A is averaged over a push to either side.
    """
    cart = CartPoleEnv()
    cart.reset(seed=0)

    def after(state: np.ndarray, push: int) -> np.ndarray:
        cart.state = state  # pyright: ignore[reportAttributeAccessIssue]
        cart.step(push)
        return np.asarray(cart.state, dtype=np.float64)

    origin, moves = np.zeros(4), step * np.eye(4)
    columns = [
        sum(after(move, push) - after(-move, push) for push in (0, 1)) / (4 * step)
        for move in moves
    ]
    force = (after(origin, 1) - after(origin, 0)) / 2
    return np.stack(columns, axis=1), force[:, None]


def expert() -> Callable[[Tensor], Tensor]:
    """The linear-quadratic regulator of the linearized plant, clipped to [-1, 1]."""
    A, B = linearize()
    Q, R = np.diag([1.0, 0.1, 10.0, 0.1]), np.array([[0.5]])
    P = solve_discrete_are(A, B, Q, R)
    gain = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    gain = torch.tensor(gain[0], dtype=torch.float32)
    return lambda state: (-(state @ gain)).clamp(-1, 1)


# ---- 4. learning --------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How long to learn; `QUICK` is what the tests run.

    Attributes:
        rounds: how often the plant is visited for new steps.
        updates: gradient steps in each round.
        batch: plans in each gradient step.
        carts: episodes in each visit.
        horizon: longest episode of a visit.
        trials: fresh seeds of the examination before and after.
    """

    rounds: int = 4
    updates: int = 30
    batch: int = 32
    carts: int = 8
    horizon: int = 120
    trials: int = 20


QUICK = Settings(rounds=2, updates=25, batch=16, carts=4, horizon=60, trials=4)


@dataclass
class Lesson:
    """What was learned and how it went.

    Attributes:
        controller: the trained controller.
        before: examination at the start.
        after: examination on the same fresh seeds at the end.
        beginning: the parameters at the start, by name.
        imitation: the loss of every update.
        prediction: the loss of every update.
        visits: mean length of the exploring episodes of each round.
    """

    controller: Controller
    before: Rollout
    after: Rollout
    beginning: dict[str, Tensor]
    imitation: list[float] = field(default_factory=list)
    prediction: list[float] = field(default_factory=list)
    visits: list[float] = field(default_factory=list)


def learn(
    settings: Settings = Settings(),
    seed: int = 0,
    report: Callable[[str, float], None] = lambda stage, share: None,
) -> Lesson:
    """Train a controller; `report` hears the stage and the share that is done."""
    torch.manual_seed(seed)
    controller, teacher = Controller(), expert()
    examination = range(1_000_000, 1_000_000 + settings.trials)
    report("examining the untrained controller", 0.0)
    before = roll_out(controller, examination)
    beginning = {
        name: value.detach().clone() for name, value in controller.plan.bound().items()
    }
    lesson = Lesson(controller, before, before, beginning)
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.02)
    seen = Steps()
    for round_ in range(settings.rounds):
        seeds = [1_000 * seed + 20 * round_ + cart for cart in range(settings.carts)]
        visit = roll_out(controller, seeds, settings.horizon, explore=0.4)
        seen = seen + visit.steps
        lesson.visits.append(float(visit.lengths.mean()))
        for update in range(settings.updates):
            improve(controller, teacher, seen, optimizer, settings.batch, lesson)
            share = (round_ + (update + 1) / settings.updates) / settings.rounds
            report(f"learning, round {round_ + 1} of {settings.rounds}", share)
    report("examining the trained controller", 1.0)
    lesson.after = roll_out(controller, examination)
    return lesson


def improve(
    controller: Controller,
    teacher: Callable[[Tensor], Tensor],
    seen: Steps,
    optimizer: torch.optim.Optimizer,
    batch: int,
    lesson: Lesson,
) -> None:
    """One gradient step on what was seen so far.

    Imitation goes through the convex program. Alone it does not identify A and B,
    hence the prediction error of one step, in units of how much a state moves.
    """
    drawn = torch.randint(len(seen.states), (batch,))
    states = seen.states[drawn]
    imitation = (controller(states) - teacher(states)).square().mean()
    moves = (seen.following - seen.states).std(dim=0)
    missed = (controller.predict(seen.states, seen.forces) - seen.following) / moves
    prediction = missed.square().mean()
    optimizer.zero_grad()
    (imitation + 10 * prediction).backward()
    nn.utils.clip_grad_norm_(controller.parameters(), 10.0)
    optimizer.step()
    lesson.imitation.append(imitation.item())
    lesson.prediction.append(prediction.item())
