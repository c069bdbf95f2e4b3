"""Drives a reconstruction service at a given load, and reports what came of it."""
