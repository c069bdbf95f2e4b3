"""Simulated multi-coil scans whose true images are known, and files to write them to."""
