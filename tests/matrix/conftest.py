"""What the tests of the matrix share with the system tests: a folder on a real disk, and real brokers."""

from tests.system.conftest import broker, folder, second

__all__ = ["broker", "folder", "second"]
