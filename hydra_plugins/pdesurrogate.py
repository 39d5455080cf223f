"""Where Hydra looks for plugins, and finds our sweepers; a namespace package that other plugins share."""

from pdesurrogate.sweeps.sweepers import GridSweeper, StudySweeper

__all__ = ["GridSweeper", "StudySweeper"]
