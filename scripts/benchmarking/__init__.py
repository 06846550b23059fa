"""What is measured, by which implementations, in which processes, and how it is shown."""
