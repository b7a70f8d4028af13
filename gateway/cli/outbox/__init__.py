"""`sensor-gateway outbox`: what a person does with an outbox."""

from gateway.cli.outbox.commands import app

__all__ = ["app"]
