"""Files of a data set on a disk, packed, or cached."""
