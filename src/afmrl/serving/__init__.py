"""An index behind HTTP: protocols that existing clients speak, our own search and matching, a page for people."""
