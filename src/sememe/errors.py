"""One exception tree. A message says what was wrong, where, and what to do, on one line."""

from __future__ import annotations


class SememeError(Exception):
    """Base of every error Sememe raises on purpose.

    Parameters
    ----------
    what : str
        What was wrong.
    where : str, optional
        File, line, record id, stage or argument at fault.
    fix : str, optional
        What the user can do about it.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        place = f"{where}: " if where else ""
        remedy = f"; {fix}" if fix else ""
        super().__init__(" ".join(f"{place}{what}{remedy}".split()))


class InputError(SememeError, ValueError):
    """Data, a file or an argument that cannot be used (also a ValueError, as scikit-learn expects)."""


class UsageError(SememeError):
    """The command line, a recipe or a filter expression is written wrongly."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that does not parse, or whose stages do not fit together."""


class FilterError(UsageError):
    """A ``where`` expression that does not parse, or names an unknown field."""


class NotFittedError(SememeError, ValueError, AttributeError):
    """An estimator was used before ``fit``."""


class BudgetError(SememeError):
    """No recipe meets the limits that were given; the message says by how much."""

    exit_code = 1


class MissingDependency(SememeError, ImportError):
    """An optional package is not installed; the message names the command that installs it."""

    def __init__(self, package: str, *, extra: str | None = None, command: str | None = None, need: str = "") -> None:
        how = command or f"pip install 'sememe[{extra}]'"
        super().__init__(f"{need or 'this'} needs the package {package}, which is not installed", fix=f"run: {how}")


class WeightsError(InputError):
    """A weight file whose digest is not the pinned one, or whose layout is unknown."""


class StorageError(SememeError):
    """Base of everything that goes wrong with an index on disk."""


class CorruptIndex(StorageError):
    """A checksum, length or structure on disk is not what the manifest promised."""


class FormatError(StorageError):
    """A file that is not an index, or was written by a version this one cannot read."""


class ConflictError(StorageError):
    """Two writers changed the same rows; the later one must start again."""
