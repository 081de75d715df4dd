"""The one exception tree. Failure to register is data (``Registration.status``), never an exception."""


class FastretinaError(Exception):
    """Anything this package raises on purpose."""


class InvalidInput(FastretinaError, ValueError):  # noqa: N818  the name says it
    """Misuse: a wrong shape, dtype, value, option or file. The message names the argument and the remedy."""


class EngineError(FastretinaError, RuntimeError):
    """A network or engine that is missing, altered, stale or cannot run here."""
