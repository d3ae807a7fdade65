"""Planar bundle adjustment: cameras and landmarks from what each camera sees."""

import numpy as np
import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize


def planar_map(cameras, landmarks, loss=ol.sum_squares):
    """The problem: poses (x, y, angle) [c, 3] and landmarks [m, 2] of sights [c m, 2].

    The first camera stands at the origin; that is where the map is.
    """
    seer, seen = (one.ravel() for one in np.indices((cameras, landmarks)))

    @ol.problem
    def bundle(
        pose=Variable((cameras, 3)),
        point=Variable((landmarks, 2)),
        sight=Parameter((cameras * landmarks, 2)),
        place=Parameter((landmarks, 2)),
    ):
        u = point[seen, 0] - pose[seer, 0]
        v = point[seen, 1] - pose[seer, 1]
        c, s = torch.cos(pose[seer, 2]), torch.sin(pose[seer, 2])
        ahead, aside = c * u + s * v - sight[:, 0], c * v - s * u - sight[:, 1]
        return minimize(
            loss(ahead)
            + loss(aside)
            + ol.sum_squares(10 * pose[0])
            + 1e-4 * ol.sum_squares(point - place)
        )

    return bundle


def sights(cameras, landmarks, batch=(), noise=0.01, seed=0):
    """What cameras along a line see, [*batch, c m, 2], and the landmarks, [m, 2]."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    place = 2 * random(landmarks, 2)
    k = torch.arange(cameras, dtype=torch.float64)
    angle = 0.1 * k
    u = place[:, 0] - 0.3 * k[:, None]
    v = (place[:, 1] - 0.1 * k[:, None]).expand_as(u)
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    exact = torch.stack([c * u + s * v, c * v - s * u], -1).reshape(-1, 2)
    return exact + noise * random(*batch, *exact.shape), place
