"""The stand-in as its own tests have it."""

from tests.standin.conftest import ask, ear, running, standin

__all__ = ["ask", "ear", "running", "standin"]
