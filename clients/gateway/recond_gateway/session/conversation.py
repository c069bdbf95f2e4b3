"""What may come when: the states of a session, after the documentation of the protocol and Gadgetron. No network here."""

from __future__ import annotations

from enum import Enum
from typing import Final

from recond_gateway.errors import SessionError
from recond_gateway.mrd import messages as mrd


class Stage(Enum):
    """How far a session is."""

    CONFIG = "configuration"
    HEADER = "header"
    PARAMETERS = "parameters or data"
    DATA = "data"
    FINISHED = "nothing more"


_DATA: Final = (mrd.Acquisitions, mrd.Waveforms, mrd.ImageMessage, mrd.NdArray)
_CONFIG: Final = (mrd.ConfigFile, mrd.ConfigText)


class Conversation:
    """The order of a session's messages: a configuration, the header, data, CLOSE.

    TEXT may come at any time, and so may Gadgetron's queries. CLOSE before the header ends a session that only asked. After the
    header one TEXT may hold parameters.
    """

    def __init__(self) -> None:
        self.stage = Stage.CONFIG

    def take(self, message: mrd.Message) -> None:
        """Go on by a message.

        Raises
        ------
        SessionError
            It must not come now; says what should.
        """
        name = type(message).__name__
        if self.stage is Stage.FINISHED:
            raise _refused("MESSAGE_AFTER_CLOSE", f"{name} after CLOSE: open another connection for another scan")
        if isinstance(message, mrd.Close):
            self.stage = Stage.FINISHED
        elif isinstance(message, _CONFIG):
            if self.stage is not Stage.CONFIG:
                raise _refused(
                    "SECOND_CONFIG", f"a second configuration ({name}): a connection has one scan, so open another one"
                )
            self.stage = Stage.HEADER
        elif isinstance(message, mrd.Header):
            if self.stage is Stage.CONFIG:
                raise _refused(
                    "HEADER_BEFORE_CONFIG", "HEADER before CONFIG_FILE or CONFIG_TEXT: send a configuration first"
                )
            if self.stage is not Stage.HEADER:
                raise _refused("SECOND_HEADER", "a second HEADER: a connection has one scan, so open another one")
            self.stage = Stage.PARAMETERS
        elif isinstance(message, _DATA):
            if self.stage in {Stage.CONFIG, Stage.HEADER}:
                raise _refused(
                    "DATA_BEFORE_HEADER", f"{name} before HEADER: send a configuration and the ISMRMRD header first"
                )
            self.stage = Stage.DATA
        elif isinstance(message, mrd.Text) and self.stage is Stage.PARAMETERS:
            self.stage = Stage.DATA


def _refused(reason: str, message: str) -> SessionError:
    return SessionError(message, reason=reason)
