"""One file a data set. A new file in this folder is found by itself."""
