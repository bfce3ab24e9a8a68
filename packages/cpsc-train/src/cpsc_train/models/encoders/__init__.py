"""One file an encoder. A new file in this folder is found by itself."""
