"""The report of a run: figures in one self-contained HTML page."""

from drivemoe_jax.report.page import write

__all__ = ["write"]
