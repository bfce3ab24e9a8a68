"""Files and stores of data sets: reading, caching, packing, and checks of untrusted files."""
