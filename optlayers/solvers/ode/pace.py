"""How large the error of a step is, and how long the next one should be.

The error of a sample is the norm of error / (atol + rtol max(|x(t)|, |x(t + h)|)).
"""

import torch
from torch import Tensor

from optlayers.programs.initial_value import FieldFunction
from optlayers.solvers.ode.control import FixedStep
from optlayers.solvers.ode.initial_step import initial_step
from optlayers.solvers.ode.options import StepOptions
from optlayers.solvers.ode.stepper import Step, Stepper


class Pace:
    """The lengths of the steps of one walk.

    Attributes:
        proposed: the next step of each sample, were there no end and no stop, [B].
        is_adaptive: whether errors choose the steps.
    """

    def __init__(self, stepper: Stepper, options: StepOptions, state: Tensor) -> None:
        """Take what the options say.

        Args:
            stepper: the method.
            options: of the solver.
            state: x0, [B, n].
        """
        self._stepper, self._options = stepper, options
        self.is_adaptive = not isinstance(options.control, FixedStep)
        # The mean square is the sum of squares of errors that may be larger.
        share = max(1, state.shape[1]) ** 0.5 if options.norm == "rms" else 1.0
        # As tensors, so that other tolerances need no other compiled code.
        self._rtol = state.new_full((), share * options.rtol)
        self._atol = state.new_full((), share * options.absolute)

    def begin(
        self,
        field: FieldFunction,
        time: Tensor,
        state: Tensor,
        rate: Tensor,
        span: Tensor,
    ) -> None:
        """Propose the first step.

        Args:
            field: f.
            time: t0, [B].
            state: x0, [B, n].
            rate: f(t0, x0), [B, n].
            span: the time to integrate over, [B].
        """
        options, control = self._options, self._options.control
        if isinstance(control, FixedStep):
            self.proposed = torch.full_like(time, control.size or torch.inf)
        elif options.first_step is not None:
            self.proposed = torch.full_like(time, options.first_step)
        else:
            self.proposed = initial_step(
                field, time, state, rate, span,
                lambda one: self.relative(one, state.abs()),
                self._stepper.order,
            )  # fmt: skip
        # Apart, as compiled code would notice that they are one.
        self._earlier = tuple(torch.ones_like(time) for _ in range(control.depth))

    @property
    def earlier(self) -> tuple[Tensor, ...]:
        """Ratios of the last accepted steps, newest first, as many as are needed."""
        return self._earlier

    def ratio(self, step: Step, state: Tensor, running: Tensor) -> Tensor:
        """Estimated over allowed error, [B]; zero where steps are fixed.

        Args:
            step: that was tried.
            state: at its beginning, [B, n].
            running: which samples share the largest ratio if any do, bool [B].
        """
        if not self.is_adaptive or step.error is None:
            found = step.state.isfinite().all(1)
            if step.is_solved is not None:
                found = found & step.is_solved
            ratio = torch.where(found, 0.0, torch.nan)
            return self._shared(ratio, running)
        allowed = self._allowed(torch.maximum(state.abs(), step.state.abs()))
        ratio = self._norm(step.error.div(allowed))
        if step.is_solved is not None:
            ratio = torch.where(step.is_solved, ratio, torch.inf)
        return self._shared(ratio, running)

    def relative(self, error: Tensor, size: Tensor) -> Tensor:
        """The norm of an error over the allowed one, [B].

        Args:
            error: [B, n], or of the first of the states.
            size: of what is in error, of the same form, not negative.
        """
        return self._norm(error / self._allowed(size))

    def scale(self, state: Tensor) -> Tensor:
        """The size at which each state's allowed error is rtol, [B, n].

        Args:
            state: x, [B, n]; states near zero count as a thousandth of the others.
        """
        size = state.abs()
        others = 1e-3 * size.amax(1, keepdim=True)
        return size + torch.maximum(others, self._atol / self._rtol)

    def limit(self, longest: Tensor) -> None:
        """Propose no step longer than these, [B]."""
        self.proposed = torch.minimum(self.proposed, longest)

    def factor(self, ratio: Tensor, earlier: tuple[Tensor, ...]) -> Tensor | None:
        """What to multiply a step with, [B]; None if steps are fixed.

        Args:
            ratio: of the step, [B].
            earlier: ratios of the steps before, each [B].
        """
        control = self._options.control
        if isinstance(control, FixedStep):
            return None
        order = (self._stepper.error_order or 0) + 1
        return control.factor(ratio, earlier, order)

    def adapt(
        self,
        size: Tensor,
        ratio: Tensor,
        factor: Tensor | None,
        accepted: Tensor,
        *,
        has_stops: bool,
    ) -> None:
        """Propose the step after one that was tried.

        Args:
            size: of the one tried, [B].
            ratio: of it.
            factor: of the ratio.
            accepted: whether it was, bool [B].
            has_stops: whether it may have been shortened on the way.
        """
        if factor is None:
            return
        proposed = size * factor
        if has_stops:
            # What a stop has shortened says nothing against the length before.
            shortened = accepted & (size < self.proposed)
            longer = torch.maximum(proposed, self.proposed)
            proposed = torch.where(shortened, longer, proposed)
        self.proposed = proposed
        if self._earlier:
            newest = torch.where(accepted, ratio, self._earlier[0])
            kept = self._earlier[:-1]
            rest = tuple(
                torch.where(accepted, one, other)
                for one, other in zip(kept, self._earlier[1:], strict=True)
            )
            self._earlier = (newest, *rest)

    def _shared(self, ratio: Tensor, running: Tensor) -> Tensor:
        """The largest ratio of all, if samples share their steps."""
        if not self._options.joint:
            return ratio
        return torch.where(running, ratio, 0.0).amax().expand_as(ratio)

    def _allowed(self, size: Tensor) -> Tensor:
        """The error at which `_norm` of the quotient is one."""
        return torch.addcmul(self._atol, size, self._rtol)

    def _norm(self, relative: Tensor) -> Tensor:
        order = torch.inf if self._options.norm == "max" else 2.0
        return torch.linalg.vector_norm(relative, order, dim=1)
