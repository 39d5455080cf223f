"""From a trained surrogate to something that others can use: its file, labelled forecasts, programs elsewhere."""

from .artifact import load_artifact, save_artifact

__all__ = ["load_artifact", "save_artifact"]
