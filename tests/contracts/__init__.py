"""Rules that hold for every file, checked without being told which files there are."""
