"""Every error that driftd raises on purpose; the docstring is the default message."""

from __future__ import annotations


class DriftdError(Exception):
    """driftd could not go on."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class ConfigError(DriftdError):
    """The configuration is not valid."""


class ContractError(DriftdError):
    """The data contract cannot be read."""


class ExpressionError(DriftdError):
    """The expression is outside the supported subset."""


class SourceError(DriftdError):
    """The source could not be read."""


class SchemaError(SourceError):
    """The source does not have the columns or types that the monitor needs."""


class BinningMismatch(DriftdError):
    """Profiles under different binnings cannot be compared or merged."""


class PlanChanged(DriftdError):
    """The window was scanned under another plan; its rows must be counted again."""


class ProfileFormatError(DriftdError):
    """The stored profile has a format that this version cannot read."""


class StoreError(DriftdError):
    """The store cannot be used."""


class WorkerError(DriftdError):
    """A scanning worker was lost or broke its limits."""


class LimitError(WorkerError):
    """A scan took too long, used too much memory, or ended its process."""


class DeliveryError(DriftdError):
    """A message could not be delivered."""

    def __init__(
        self, message: str, *, retryable: bool, retry_after: float | None = None, sent: bool = False,
        disable: bool = False, status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.sent = sent
        self.disable = disable
        self.status = status
