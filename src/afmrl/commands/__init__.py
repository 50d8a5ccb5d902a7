"""The commands of the command line, one file a noun; importing them stays light."""
