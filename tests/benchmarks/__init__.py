"""Benchmarks, run by `script/bench`. They print figures; nothing asserts on a time."""
