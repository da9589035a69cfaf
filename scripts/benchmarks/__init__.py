"""Benchmarks: both sides in one run, the order rotated, medians and ratios printed.

Never part of the tests: these figures depend on the machine, and nothing may fail for a slow one.
"""
