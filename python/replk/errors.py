"""What the library refuses, as exceptions. Each message is one line that names field, value and what is allowed."""


class Error(RuntimeError):
    """Base of all errors of the library. ``status`` is the C API's number."""

    status = 7


class InvalidArgument(Error, ValueError):
    """A value that the caller gave."""

    status = 1


class BadFile(Error, ValueError):
    """The content of a file."""

    status = 2


class NotFound(Error, LookupError):
    """A file or a name that does not exist."""

    status = 3


class Unsupported(Error, NotImplementedError):
    """Valid, but not on this machine or not in this build."""

    status = 4


class OutOfMemory(Error, MemoryError):
    """Not enough memory."""

    status = 5


class Cancelled(Error):
    """The caller stopped the work."""

    status = 6


BY_STATUS = {kind.status: kind for kind in (InvalidArgument, BadFile, NotFound, Unsupported, OutOfMemory, Cancelled)}
