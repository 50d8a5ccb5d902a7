"""The public sets, one file each."""
