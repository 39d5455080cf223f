"""Files to batches: the store, readers of public formats, windows, sampling and the data module.

A data set is one module of this package and one yaml: a function that returns a `DataSet`, registered
with ``@DATASETS.register("name")``.
"""

from pdesurrogate.registry import Registry

DATASETS = Registry("data set", "pdesurrogate.data")

__all__ = ["DATASETS"]
