"""Tests of training: tasks, optimisers, checkpoints, and the judgement of training programs."""
