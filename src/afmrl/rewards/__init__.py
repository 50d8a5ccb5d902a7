"""RAR's rewards: of a query, of the gallery's offers."""
