"""One desk in one thread: the real attempts, feeders and scripts on a real Valkey, on a virtual clock."""
