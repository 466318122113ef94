"""What of a network is on at a fraction of the run: passes of a recurrence, late rounding.

Set once a step, from the progress that all ranks agree on. `at` lists the fractions where something changes:
between two of them the compiled graph is the same.
"""

from pgolf.model.gpt import Gpt
from pgolf.train.late_qat import LateQat, Quantization


class Switches:
    def __init__(self, network: Gpt, late_qat: LateQat | None) -> None:
        self.network, self.quantization = network, Quantization(late_qat, network)
        self.at = tuple(sorted({0.0, *network.switches(), *self.quantization.switches()}))

    def set(self, progress: float, step: int) -> None:
        """As of this fraction of the run, for the step with this number."""
        self.network.set_progress(progress)
        self.quantization.set(progress, step)

    def deploy(self) -> None:
        """As deployed: everything on, nothing rounded that is not kept so."""
        self.network.set_progress(1.0)
        self.quantization.settle()
