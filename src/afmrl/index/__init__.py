"""An index of offers: a folder or a database."""
