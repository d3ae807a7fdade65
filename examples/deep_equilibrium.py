"""A deep-equilibrium model that reads digits, with memory that no iteration adds to.

The features of an image x are the fixed point z = tanh(0.8 W z + U x + b) with |W| = 1.
Source: Bai, Kolter and Koltun, Deep Equilibrium Models (2019), section 3.1.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import spectral_norm

from optlayers.functional import fixed_point
from optlayers.solvers.root.fixed_point import FixedPoint

WIDTH, EPOCHS, BATCH = 256, 15, 64
TOLERANCE = 1e-4  # of the features, whose size is about 1


class Equilibrium(nn.Module):
    """An image [B, 64] to the scores of ten digits [B, 10]."""

    def __init__(self):
        super().__init__()
        self.inner = spectral_norm(nn.Linear(WIDTH, WIDTH, bias=False))
        self.entry = nn.Linear(64, WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def features(self, x, **options):
        """The fixed point z, [B, 64] -> [B, WIDTH]."""
        # Read once: the parametrization improves its estimate of |W| at each reading.
        W, v = 0.8 * self.inner.weight.mT, self.entry(x)
        options = {"tolerance": TOLERANCE} | options
        return fixed_point(
            lambda z: torch.tanh(z @ W + v), torch.zeros_like(v), **options
        ).value

    def forward(self, x):
        """The scores, [B, 64] -> [B, 10]."""
        return self.head(self.features(x))


def digits():
    """Images [n, 64] with labels [n] to learn from, and others to test with."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        torch.tensor(images / 8 - 1, dtype=torch.float32), torch.tensor(labels),
        test_size=0.25, random_state=0, stratify=labels,
    )  # fmt: skip
    return parts[0::2], parts[1::2]


def train(model, images, labels):
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, EPOCHS * batches)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))[: batches * BATCH]
        for rows in order.split(BATCH):
            noisy = images[rows] + 0.1 * torch.randn(BATCH, images.shape[1])
            loss = cross_entropy(model(noisy), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2}: loss {loss.item():.3f}")


def saved_bytes(function):
    """Bytes that a forward keeps for its backward, a tensor counted once."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(size for size, _ in kept.values())


def memory(model, images, steps):
    """Kilobytes kept for the implicit derivative and for that of so many steps."""
    solver = FixedPoint(max_steps=steps, tolerance=1e-30, check_every=steps)

    def kept(gradient):
        return saved_bytes(
            lambda: model.features(
                images, tolerance=0.5, solver=solver, gradient=gradient
            )
        )

    return [kept(gradient) // 1024 for gradient in ("exact", "unrolled")]


def main():
    torch.manual_seed(0)
    (images, labels), (test_images, test_labels) = digits()
    model = Equilibrium()
    train(model, images, labels)
    model.eval()
    with torch.no_grad():
        right = model(test_images).argmax(1) == test_labels
    accuracy = right.float().mean().item()
    few, many = (memory(model, images[:BATCH], steps) for steps in (10, 100))
    print(f"{accuracy:.1%} of {len(right)} unseen digits are read correctly")
    for steps, (implicit, unrolled) in ((10, few), (100, many)):
        print(f"{steps:3} steps keep {implicit} kB, unrolled {unrolled} kB")
    assert accuracy >= 0.96
    assert few[0] == many[0] < few[1] < many[1]


if __name__ == "__main__":
    main()
