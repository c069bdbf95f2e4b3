"""Triton Inference Servers as model servers, and what runs inside them.

`interface` is known to both sides. `executor` and `repository_model` run in the Python backend of a Triton server; the rest runs in
the service.
"""
