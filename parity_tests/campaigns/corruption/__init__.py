"""Damaged and malicious files of every container (`__main__.py`)."""
