"""Declarations with unknown poses, their data, and what is known of their solutions."""

import math

import torch

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, minimize

DOUBLE = {"dtype": torch.float64}
# A KKT residual of 1e-8 at conditions of some tens.
CLOSE = {"rtol": 0, "atol": 1e-7}


@ol.problem
def wahba(R=ol.SO3(), p=Parameter("m 3"), q=Parameter("m 3")):
    return minimize(ol.sum_squares(R @ p - q))


@ol.problem
def register(T=ol.SE3(), p=Parameter("m 3"), q=Parameter("m 3")):
    return minimize(ol.sum_squares(T @ p - q))


@ol.problem
def turn(R=ol.SO2(), p=Parameter("m 2"), q=Parameter("m 2")):
    return minimize(ol.sum_squares(R.act(p) - q))


@ol.problem
def average(R=ol.SO3(), given=ol.SO3.parameter("m")):
    return minimize(ol.sum_squares(R.between(given).log()))


def loop_misfit(T, step, weight):
    """Of poses round a loop; step i leads from pose i to the next, the last one back.

    The poses of a graph are searched from where the odometry leads: from the identity a
    loop of one turn has as its nearest minimum one of no turn.
    """
    after = [*range(1, len(T)), 0]
    error = step.between(T.between(T[after])).log()
    return ol.sum_squares(weight * error) + ol.sum_squares(T[0].log())


@ol.problem
def plane_loop(
    D=ol.SE2("k"), first=ol.SE2.parameter("k"), step=ol.SE2.parameter("k"),
    weight=Parameter("3"),
):  # fmt: skip
    return minimize(loop_misfit(first @ D, step, weight))


@ol.problem
def space_loop(
    D=ol.SE3("k"), first=ol.SE3.parameter("k"), step=ol.SE3.parameter("k"),
    weight=Parameter("6"),
):  # fmt: skip
    return minimize(loop_misfit(first @ D, step, weight))


@ol.problem
def hand_eye(X=ol.SE3(), A=ol.SE3.parameter("m"), B=ol.SE3.parameter("m")):
    """A X = X B of a camera on a robot's hand."""
    return minimize(ol.sum_squares((A @ X).between(X @ B).log()))


@ol.problem
def bundle(
    T=ol.SE3("c"),
    x=Variable("p 3", start=(0.0, 0.0, 4.0)),
    seen=Parameter("c p 2"),
    prior=Parameter("p 3"),
):
    """Cameras and points from where the points are seen, and roughly are."""
    local = T[:, None] @ x
    missed = local[..., :2] / local[..., 2:] - seen
    return minimize(ol.sum_squares(missed) + 1e-2 * ol.sum_squares(x - prior))


@ol.problem
def leaning(R=ol.SO2(), goal=Parameter("2"), limit=Parameter()):
    """The nearest direction to a goal that is low enough."""
    ahead = R @ [1.0, 0.0]
    return minimize(ol.sum_squares(ahead - goal), low=ahead[1] <= limit)


@ol.problem
def track(T=ol.SE3(), x=State("3"), u=Control("3"), goal=Parameter("3")):
    """A trajectory, and the frame in which it ends at a goal."""
    missed = ol.sum_squares(T @ x.last - goal) + ol.sum_squares(T.log())
    return minimize(
        ol.total(ol.sum_squares(u)) + missed, go=x.next == x + u, start=x.first == 0
    )


@ol.problem
def reach(T=ol.SE3(), goal=ol.SE3.parameter()):
    return ol.solve(pose=T == goal)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), **DOUBLE)


def procrustes(p, q):
    """The rotation that takes p nearest to q: by singular values, [*batch, 3, 3]."""
    U, _, Vh = torch.linalg.svd(q.mT @ p)
    sign = torch.linalg.det(U @ Vh).detach()
    ones = torch.ones_like(sign)
    return U @ torch.diag_embed(torch.stack([ones, ones, sign], -1)) @ Vh


def noisy_loop(group, count, noise, seed=0):
    """Steps round a closed loop with noise, and where they lead one after another."""
    turning = torch.zeros(count, group.degrees, **DOUBLE)
    turning[:, 0] = 1.0
    turning[:, -1] = 2 * math.pi / count
    error = noise * normal(count, group.degrees, seed=seed)
    steps = group.exp(turning) @ group.exp(error)
    poses = [torch.eye(group.order, **DOUBLE)]
    for one in steps[:-1]:
        poses.append(poses[-1] @ one)
    return steps, torch.stack(poses)
