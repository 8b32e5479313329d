"""The failpoint sweep: a job is stopped at every step, under every fault of the stand-in, and must still end right."""
