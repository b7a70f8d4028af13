"""The composition root: from a config to running parts, their changes while they run, and their orderly stop."""

from gateway.service.running import run

__all__ = ["run"]
