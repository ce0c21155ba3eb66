"""NoisyLabelSeg's library: what a prediction needs, with no Slicer, no GPU and no mamba-ssm required."""

__version__ = "0.1.0"
