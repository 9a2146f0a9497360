"""The connectors that ship with the aggregator: one file a venue."""
