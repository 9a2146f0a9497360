"""Venues that speak the real protocols with made-up prices, and faults on demand.

    async with Simulator(port=0, seed=7) as simulator:
        simulator.faults.add(venue="okx", kind="mute", for_s=5)

It imports nothing else of the aggregator: what it says about a venue is checked by nobody's
assumptions but the venue's documentation and recordings.
"""

from aggregator.simulator.faults import Fault, Faults
from aggregator.simulator.journal import Command, Request
from aggregator.simulator.server import Options, Simulator, serve

__all__ = ["Command", "Fault", "Faults", "Options", "Request", "Simulator", "serve"]
