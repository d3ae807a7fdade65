"""Learn the dynamics and the cost of a planning controller, in a few seconds.

The short setting of `optlayers demo`, which does the same for longer and draws it.
"""

from optlayers.demo.cartpole import LONGEST, QUICK, learn


def main():
    lesson = learn(QUICK, seed=0)
    before, after = lesson.before.lengths.mean(), lesson.after.lengths.mean()
    learned = lesson.controller.plan.bound()
    print(f"mean episode: {before:.0f} steps before, {after:.0f} of {LONGEST} after")
    print(
        f"B, force on spin: {lesson.beginning['B'][3, 0]:+.3f} before, "
        f"{learned['B'][3, 0]:+.3f} after"
    )
    assert before < 50
    assert after > 400


if __name__ == "__main__":
    main()
