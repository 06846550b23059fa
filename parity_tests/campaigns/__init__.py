"""Long runs with a documented figure, each a command of its own; never collected by pytest."""
