"""The tests: they mirror the packages."""

from tests import typecheck as typecheck
