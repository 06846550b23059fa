"""What the diagnosis supposes of an LSTM: that it is a correct one with certain faults in it."""

from dataclasses import dataclass, replace

from torch_oracle.diagnosis.faults.catalogue import CELL_FAULTS
from torch_oracle.diagnosis.faults.fault import Fault

HypothesisKey = tuple[frozenset[str], bool]


@dataclass(frozen=True)
class Hypothesis:
    """The faults that an LSTM is supposed to have; without any, it is supposed to be correct.

    Args:
        faults: in the order of the catalogue.
        autograd: whether its gradients are supposed to be the exact derivative of the forward pass
            with these faults, as autograd makes them. If not, they are what the hand-written
            backward pass with these faults gives.
    """

    faults: tuple[Fault, ...] = ()
    autograd: bool = False

    @property
    def size(self) -> int:
        """How much is supposed: the number of faults, and one more for autograd."""
        if self.autograd:
            return len(self.faults) + 1
        return len(self.faults)

    @property
    def key(self) -> HypothesisKey:
        """What makes two hypotheses the same, in whatever order they were put together."""
        return frozenset(fault.id for fault in self.faults), self.autograd

    @property
    def breaks_the_forward_pass(self) -> bool:
        """Whether any of the faults is one of the forward pass or the loss."""
        return any(fault.stage != "backward" for fault in self.faults)

    def plus(self, *faults: Fault) -> "Hypothesis":
        """The hypothesis with these faults too."""
        return replace(self, faults=tuple(sorted(self.faults + faults, key=CELL_FAULTS.index)))

    def minus(self, fault: Fault) -> "Hypothesis":
        """The hypothesis without one of its faults."""
        return replace(self, faults=tuple(each for each in self.faults if each != fault))
