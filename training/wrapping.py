"""Networks without what Lightning Fabric wraps them in."""

from torch import nn


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself: what one process does alone must not wait for the others, as a distributed wrapper would."""
    inner = getattr(network, "module", network)
    return inner if isinstance(inner, nn.Module) else network
