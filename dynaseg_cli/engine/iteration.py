"""The loop over the iterations on one image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .training_step import TrainingStep
from .trajectory import End, Status, Trajectory, read_status

Watch = Callable[[Status], None]
"""Called with the status whenever the host knows it; what it raises ends the loop."""


class Iteration:
    """Response, labels, loss and what the trajectory makes of them; then gradients and an update of the network.

    Made for one size, and run on any number of images of this size.

    Parameters
    ----------
    update : changes the network by its parameters' gradients, and nothing once the trajectory has ended.
    """

    def __init__(self, step: TrainingStep, update: Callable[[], None], trajectory: Trajectory) -> None:
        self.step = step
        self._update = update
        self.trajectory = trajectory

    def run(
        self,
        image: Tensor,
        threshold: int,
        limit: int,
        watch: Watch,
        scribbles: Tensor | None = None,
        *,
        every: bool = False,
    ) -> End:
        """Iterate on (1, 3, H, W), with scribbles on it if the step is made for them, until the trajectory ends.

        With `every`, `watch` is called after every iteration, before the next changes anything.
        """
        self.step.load(image, scribbles)
        self.trajectory.begin(threshold, limit)
        return self._one_by_one(watch) if every else self._loop(watch)

    def rehearse(self) -> None:
        """Iterate once on whatever is loaded, without changing the network's parameters.

        This compiles the kernels and lets the libraries choose their algorithms.
        """
        self.trajectory.halt()
        self._look_and_improve()

    def _loop(self, watch: Watch) -> End:
        return self._one_by_one(watch)

    def _one_by_one(self, watch: Watch) -> End:
        while True:
            self._look()
            status = read_status(self.trajectory.status())
            watch(status)
            if status.end is not None:
                return status.end
            self._improve()

    def _look_and_improve(self) -> None:
        self._look()
        self._improve()

    def _look(self) -> None:
        self.trajectory.take(self.step.evaluate(self.trajectory.threshold))

    def _improve(self) -> None:
        self.step.backward()
        self._update()
