"""One desk in one thread: the real attempts, feeders and scripts on a real Valkey, under a virtual clock and one seed."""
