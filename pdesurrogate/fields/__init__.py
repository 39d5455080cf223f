"""What a field is: its specification, batches of windows, normalisation and Fourier analysis."""

from .batch import Batch
from .normalisation import ChannelStatistics, Normaliser
from .spec import Axis, DataSpec, Field, Parameter

__all__ = ["Axis", "Batch", "ChannelStatistics", "DataSpec", "Field", "Normaliser", "Parameter"]
