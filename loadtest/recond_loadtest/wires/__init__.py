"""How requests travel to the different kinds of servers."""

from recond_loadtest.wires.call import Call, End
from recond_loadtest.wires.http import HttpWire
from recond_loadtest.wires.kserve import KserveWire
from recond_loadtest.wires.mrd import MrdWire
from recond_loadtest.wires.recond import RecondWire
from recond_loadtest.wires.wire import Health, Job, Wire, WireError

__all__ = ["Call", "End", "Health", "HttpWire", "Job", "KserveWire", "MrdWire", "RecondWire", "Wire", "WireError"]
