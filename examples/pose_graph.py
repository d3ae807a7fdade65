"""Where a robot was: odometry and places seen again, and a bias learned through it.

A robot drives two rounds. Its odometry drifts: every step has noise, and its gyroscope
a bias. That it passes known pairs of places again closes the graph of poses. The bias
is learned from the derivative of the poses in what was measured.
"""

import math

import torch

import optlayers as ol
from optlayers import Parameter, minimize

COUNT = 24  # poses, 12 a round
EARLIER, LATER = [0, 3, 6, 9], [12, 15, 18, 21]
BIAS = 0.03  # of every turn, in radians


@ol.problem
def graph(
    T=ol.SE2("k"),
    moved=ol.SE2.parameter("k-1"),
    seen=ol.SE2.parameter("c"),
    trust=Parameter("3", nonneg=True),
):
    odometry = moved.between(T[:-1].between(T[1:])).log()
    closures = seen.between(T[EARLIER].between(T[LATER])).log()
    return minimize(
        ol.sum_squares(T[0].log())
        + ol.sum_squares(trust * odometry)
        + 100 * ol.sum_squares(closures)
    )


def drive():
    """True poses, measured steps, and the poses seen again, as matrices."""
    noise = torch.Generator().manual_seed(0)
    turn = torch.tensor([0.5, 0.0, 2 * math.pi / 12], dtype=torch.float64)
    true = [ol.SE2.exp(0 * turn)]
    for k in range(COUNT - 1):
        wobble = torch.tensor([0.0, 0.0, 0.25 * math.sin(0.9 * k)])
        true.append(true[-1] @ ol.SE2.exp(turn + wobble))
    true = torch.stack([one.matrix() for one in true])
    poses = ol.SE2.from_matrix(true)
    error = 0.02 * torch.randn(COUNT - 1, 3, generator=noise)
    error[:, 2] += BIAS
    steps = poses[:-1].between(poses[1:]) @ ol.SE2.exp(error.double())
    blur = 0.01 * torch.randn(len(LATER), 3, generator=noise).double()
    seen = poses[EARLIER].between(poses[LATER]) @ ol.SE2.exp(blur)
    return true, steps.matrix(), seen.matrix()


def reckoned(steps):
    """Where the steps lead one after another, [COUNT, 3, 3]."""
    poses = [torch.eye(3, dtype=steps.dtype)]
    for one in steps.detach():
        poses.append(poses[-1] @ one)
    return torch.stack(poses)


def estimate(steps, seen):
    """The most likely poses, searched from where the odometry leads."""
    trust = torch.tensor([30.0, 30.0, 30.0], dtype=torch.float64)
    start = {"T": reckoned(steps)}
    return graph(moved=steps, seen=seen, trust=trust, warm_start=start).T


def distance(poses, true):
    """Root mean square distance from the true places, in metres."""
    return (poses[:, :2, 2] - true[:, :2, 2]).square().sum(1).mean().sqrt()


def without(bias, steps):
    """The steps as they would have been measured without a bias."""
    turned = torch.stack([0 * bias, 0 * bias, -bias])
    return (ol.SE2.from_matrix(steps) @ ol.SE2.exp(turned)).matrix()


def learn(true, steps, seen):
    """The bias with which the poses come nearest to the true ones, by Gauss-Newton."""
    bias = torch.zeros((), dtype=torch.float64)

    def errors(bias):
        poses = estimate(without(bias, steps), seen)
        found = (poses[:, :2, 2] - true[:, :2, 2]).flatten()
        return found, found

    for _ in range(3):
        slope, e = torch.func.jacfwd(errors, has_aux=True)(bias)
        bias = bias - (slope @ e) / (slope @ slope)
    return bias


def draw(folder):
    """The three tracks from above."""
    import matplotlib.pyplot as plt

    true, steps, seen = drive()
    better = estimate(without(learn(true, steps, seen), steps), seen)
    tracks = {
        "odometry alone": reckoned(steps),
        "pose graph": estimate(steps, seen),
        "pose graph, bias learned": better,
    }
    figure, axes = plt.subplots(
        1, 3, figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained"
    )
    for axis, (name, poses) in zip(axes, tracks.items(), strict=True):
        axis.plot(*true[:, :2, 2].T, color="0.7", linewidth=4, label="truth")
        axis.plot(*poses[:, :2, 2].T, ".-", color="C0", label="estimate")
        error = float(distance(poses, true))
        axis.set(title=f"{name}\n{100 * error:.0f} cm off", xlabel="m", aspect="equal")
    axes[0].legend(loc="center")
    figure.savefig(f"{folder}/pose_graph.png", dpi=120)


def main():
    true, steps, seen = drive()
    alone = float(distance(reckoned(steps), true))
    closed = float(distance(estimate(steps, seen), true))
    bias = learn(true, steps, seen)
    better = float(distance(estimate(without(bias, steps), seen), true))
    print(f"off by {alone:.3f} m by odometry alone, {closed:.3f} m as a pose graph")
    print(f"off by {better:.3f} m with a bias of {float(bias):.4f}, true {BIAS}")
    assert closed < alone / 3 and better < closed and abs(float(bias) - BIAS) < 0.01


if __name__ == "__main__":
    main()
