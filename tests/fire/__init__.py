"""The queue under fire: model-based tests, faults in real processes, and a full table."""
