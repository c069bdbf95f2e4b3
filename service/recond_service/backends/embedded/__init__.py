"""The default model server: a worker process of this service, supervised, with frames in shared memory."""
