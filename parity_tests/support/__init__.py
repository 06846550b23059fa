"""What several tests use: problems, planted bugs, other frameworks' LSTMs."""
