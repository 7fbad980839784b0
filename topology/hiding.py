"""No secret in a log or an error line, whoever says it.

We never write one, but services quote them: a Google API may answer "Consumer 'api_key:...' has been suspended".
"""

import logging

from topology.settings import Settings

_LEAST_HIDDEN = 8  # a shorter one would take words out of the text that are none


class _Hiding(logging.Formatter):
    def __init__(self, inner: logging.Formatter, settings: Settings) -> None:
        super().__init__()
        self._inner = inner
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(self._settings, self._inner.format(record))


def without_secrets(settings: Settings, text: str) -> str:
    """Return the text with the settings' secrets masked."""
    for secret in settings.secrets:
        if len(secret) >= _LEAST_HIDDEN:
            text = text.replace(secret, "(secret)")
    return text


def hide_secrets(settings: Settings) -> None:
    """Mask the settings' secrets in all that is logged from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Hiding(handler.formatter or logging.Formatter(), settings))
