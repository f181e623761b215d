"""House: procedural, furnished 3-D houses, seen by ray casting."""
