"""The connectors that ship with the aggregator: one file or package a venue."""
