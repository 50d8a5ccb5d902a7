"""The small generator: a real language model that lies in a package, taught to write key attributes of titles."""
