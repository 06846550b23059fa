"""The command `lstm-oracle`: verify, diagnose, training, lockstep and faults."""
