"""The KServe v2 protocol: single frames to the frame half of the pipeline."""
