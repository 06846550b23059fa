"""Everything that makes weights out of data."""
