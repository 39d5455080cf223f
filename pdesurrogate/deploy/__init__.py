"""From a trained surrogate to something that others can use: the artifact file, forecasts of labelled data, programs for other runtimes."""

from .artifact import load_artifact, save_artifact

__all__ = ["load_artifact", "save_artifact"]
