"""Is somebody's training program right? Each stage of each step, and what is wrong with it."""
