"""A raw-data file played to a gateway as a scanner would, for tests, demonstrations and load."""
